@testable import Martlet
import Testing

@Suite struct ReadingLimitTests {
    @Test(arguments: [(0, 10_000, 512), (9_900, 10_000, 100), (10_000, 10_000, 64), (40, 64, 64)])
    func noMoreThanHasAPlace(_ inFlight: Int, _ places: Int, _ records: Int) {
        #expect(ReadingLimit.records(inFlight: inFlight, places: places, ended: 100, ready: 100) == records)
    }

    @Test func whatIsDoneComesBeforeWhatIsNew() {
        #expect(ReadingLimit.records(inFlight: 1_000, places: 10_000, ended: 256, ready: 256) == 128)
        #expect(ReadingLimit.records(inFlight: 10_000, places: 10_000, ended: 256, ready: 256) == 64)
    }

    /// All places of a few end at once: they are taken again in the same turn.
    @Test func aLaneWithFewPlacesTakesThemAllAgain() {
        #expect(ReadingLimit.records(inFlight: 0, places: 64, ended: 64, ready: 64) == 64)
    }

    /// Byte after byte from hundreds of receivers, without an end.
    @Test func readingGoesOnWhateverReceiversSend() {
        #expect(ReadingLimit.records(inFlight: 1_000, places: 10_000, ended: 0, ready: 256) == 16)
    }

    /// A lane that handles 256 events a turn, of receivers that answer as soon as they can: however many events a delivery needs, its places don't
    /// fill up.
    @Test(arguments: [1, 2, 3, 4, 5])
    func aBusyLaneDoesNotFillItsPlaces(_ eventsOfADelivery: Int) {
        var (inFlight, waiting, handledSoFar, most) = (0, 0, 0, 0)
        for _ in 0..<10_000 {
            let handled = min(256, waiting)
            let ended = (handledSoFar + handled) / eventsOfADelivery - handledSoFar / eventsOfADelivery
            let read = ReadingLimit.records(inFlight: inFlight, places: 10_000, ended: ended, ready: handled)
            handledSoFar += handled
            inFlight += read - ended
            waiting += read * eventsOfADelivery - handled
            most = max(most, inFlight)
        }
        #expect(most < 2_000)
    }
}
