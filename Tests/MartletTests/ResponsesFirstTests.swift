import Martlet
import Testing

@Suite struct ResponsesFirstTests {
    /// Whether each of these turns reads.
    static func reads(_ hasMoreResponses: [Bool]) -> [Bool] {
        var rule = ResponsesFirst()
        return hasMoreResponses.map { rule.mayRead(hasMoreResponses: $0) }
    }

    @Test func readsInEveryTurnWhileResponsesAreFew() {
        #expect(Self.reads([false, false, false]) == [true, true, true])
    }

    @Test func responsesThatWaitComeBeforeNewRecords() {
        #expect(Self.reads([true, true, false, true]) == [false, false, true, false])
    }

    /// Receivers that never stop sending don't stop the reading.
    @Test func butNotForever() {
        let turns = Self.reads(Array(repeating: true, count: 3 * (ResponsesFirst.turnLimit + 1)))
        #expect(turns.count { $0 } == 3)
        #expect(turns.split(separator: true).allSatisfy { $0.count == ResponsesFirst.turnLimit })
    }
}
