@testable import Kafka
import Testing

struct ReadyQueuesTests {
    private func list(_ queues: ReadyQueues) -> [Int] {
        var numbers = [99]
        queues.list(into: &numbers)
        return numbers
    }

    @Test(arguments: [0, 1, 63, 64, 65, 200]) func allAreReadyAtFirst(_ count: Int) {
        #expect(list(ReadyQueues(count: count)) == Array(0..<count))
    }

    /// Against the plain way, for every beginning and many sets of ready queues.
    @Test func aReadingBeginsBehindTheOneThatWasServedLast() {
        for count in [1, 5, 64, 130] {
            for last in 0..<count {
                var queues = ReadyQueues(count: count)
                let ready = (0..<count).filter { ($0 &* 7 &+ last) % 5 < 2 }
                for number in 0..<count where !ready.contains(number) { queues.emptied(number) }
                queues.served(last)
                #expect(list(queues) == ready.filter { $0 > last } + ready.filter { $0 <= last }, "\(count) queues, \(last) was served")
            }
        }
    }

    @Test func oneThatIsEmptyIsReadyAgainWhenItIsWoken() {
        var queues = ReadyQueues(count: 70)
        for number in 0..<70 { queues.emptied(number) }
        #expect(list(queues) == [])
        queues.wake(66)
        queues.wake(66)
        queues.wake(3)
        // Of an assignment before this one.
        queues.wake(70)
        queues.wake(Int(UInt32.max))
        #expect(list(queues) == [3, 66])
        queues.wakeAll()
        #expect(list(queues) == Array(0..<70))
    }

    /// Of 216 queues two always have something, and one of them is all that a reading has room for.
    @Test func aBacklogDoesNotTakeTheTurnsOfSilentOnes() {
        var queues = ReadyQueues(count: 216)
        for number in 0..<216 where number != 24 && number != 34 { queues.emptied(number) }
        var served: [Int: Int] = [:]
        for _ in 0..<432 {
            let first = list(queues)[0]
            served[first, default: 0] += 1
            queues.served(first)
        }
        #expect(served == [24: 216, 34: 216])
    }
}
