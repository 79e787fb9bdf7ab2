import HTTPDelivery
import Testing

@testable import Martlet
@testable import MartletWorker

/// Records that a lane keeps, and memory that one leaves to the next.
struct LaneItemsTests {
    private static func keep(_ items: inout LaneItems, slot: UInt32, generation: UInt32, id: String, body: [UInt8], waits: Bool = false)
        -> RecordToken
    {
        let item = items.empty()
        item.headers.eventID = id
        let token = RecordToken(slot: slot, generation: generation)
        item.begin(token, CopiedBody(body), waits: waits)
        items.keep(item)
        return token
    }

    @Test(arguments: [0, 1, 2_048, 2_049, 100_000]) func aBodyIsTheRecordsWhetherCopiedOrNot(count: Int) {
        let body = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        for waits in [false, true] {
            var items = LaneItems()
            for turn in UInt32(1)...3 {
                let token = Self.keep(&items, slot: 0, generation: turn, id: "e", body: body, waits: waits)
                #expect(items[token].map { Array($0.bytes) } == body)
                items.release(token)
                #expect(items[token] == nil)
            }
        }
    }

    @Test func nothingOfARecordIsLeftToTheNext() throws {
        var items = LaneItems()
        let first = Self.keep(&items, slot: 3, generation: 1, id: "one", body: Array("a long body".utf8))
        let held = try #require(items[first])
        let id = held.messageID
        (held.bearer, held.url, held.startedWall, held.producedWall) = ("token", "https://example.com", 5, 6)
        held.lastResult = HTTPResult(token: first.bits, status: 503)
        items.release(first)
        let second = Self.keep(&items, slot: 3, generation: 2, id: "two", body: Array("short".utf8))
        let item = try #require(items[second])
        #expect(items[first] == nil)
        #expect(Array(item.bytes) == Array("short".utf8) && item.messageID != id && item.headers.eventID == "two")
        #expect(item.bearer == nil && item.url == "" && item.lastResult == nil && item.startedWall == 0 && item.producedWall == 0)
    }

    @Test func whatIsStillBeingSentIsNotWrittenOver() throws {
        var items = LaneItems()
        let first = Self.keep(&items, slot: 0, generation: 1, id: "one", body: Array("on its way".utf8))
        // As the transport does.
        let sending: any BodyBytes = try #require(items[first])
        items.release(first)
        let second = Self.keep(&items, slot: 0, generation: 2, id: "two", body: Array("another one".utf8))
        #expect(items[second] !== sending)
        #expect(Array(sending.bytes) == Array("on its way".utf8))
    }
}
