@testable import Kafka
import Testing

struct ReadingTurnsTests {
    /// Of 216 queues two always have something, and one of them is all that a reading has room for.
    @Test func aBacklogDoesNotTakeTheTurnsOfSilentOnes() {
        var turns = ReadingTurns()
        var served: [Int: Int] = [:]
        for _ in 0..<432 {
            let numbers = (0..<216).map { turns.number($0, of: 216) }
            #expect(Set(numbers).count == 216)
            guard let first = numbers.first(where: { $0 == 24 || $0 == 34 }) else { continue }
            served[first, default: 0] += 1
            turns.served(first)
        }
        #expect(served == [24: 216, 34: 216])
    }
}
