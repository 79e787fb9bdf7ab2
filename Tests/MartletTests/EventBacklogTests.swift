import Martlet
import Testing

struct EventBacklogTests {
    private static let readings = EventBacklog.readings
    private static let rest = EventBacklog.restMilliseconds

    /// How what is written now goes.
    private enum Way { case atOnce, gathered, notYet }

    private func way(_ backlog: inout EventBacklog, outstanding: Int = 0, at now: Int64) -> Way {
        switch backlog.gathers(outstanding: outstanding, now: now) {
        case nil: .notYet
        case true: .gathered
        case false: .atOnce
        }
    }

    private func findEvents(_ backlog: inout EventBacklog, at now: Int64, times: Int = readings) {
        for _ in 0..<times { backlog.read(hasMore: true, now: now) }
    }

    /// One whose deliveries are gathered, since 0.
    private func gathering() -> EventBacklog {
        var backlog = EventBacklog()
        findEvents(&backlog, at: 0)
        #expect(way(&backlog, at: 0) == .gathered)
        return backlog
    }

    @Test func isThereAfterReadingsInARowThatLeftEvents() {
        var backlog = EventBacklog()
        for now in 0..<1_000 as Range<Int64> {
            // Never so many in a row.
            backlog.read(hasMore: now % Int64(Self.readings) != 0, now: now)
            #expect(way(&backlog, at: now) == .atOnce)
        }
        backlog.read(hasMore: false, now: 1_000)
        findEvents(&backlog, at: 1_000, times: Self.readings - 1)
        #expect(way(&backlog, at: 1_000) == .atOnce)
        findEvents(&backlog, at: 1_000, times: 1)
        #expect(way(&backlog, at: 1_000) == .gathered)
    }

    @Test func isOverWhenReadingLeftNothingForAWhile() {
        var backlog = gathering()
        for now in 0..<Self.rest {
            backlog.read(hasMore: false, now: now)
            #expect(way(&backlog, at: now) == .gathered)
        }
        findEvents(&backlog, at: Self.rest, times: 1)
        backlog.read(hasMore: false, now: 2 * Self.rest - 1)
        #expect(way(&backlog, at: 2 * Self.rest - 1) == .gathered)
        backlog.read(hasMore: false, now: 2 * Self.rest)
        #expect(way(&backlog, at: 2 * Self.rest) == .atOnce)
        // It begins as it did the first time.
        findEvents(&backlog, at: 100, times: Self.readings - 1)
        #expect(way(&backlog, at: 100) == .atOnce)
        findEvents(&backlog, at: 101, times: 1)
        #expect(way(&backlog, at: 101) == .gathered)
    }

    @Test func changesOnlyWhenNothingIsOutstanding() {
        var backlog = EventBacklog()
        findEvents(&backlog, at: 0)
        #expect(way(&backlog, outstanding: 7, at: 1) == .notYet && way(&backlog, outstanding: 1, at: 200) == .notYet)
        #expect(way(&backlog, at: 200) == .gathered)
        // Done: what is outstanding now is the other's.
        #expect(way(&backlog, outstanding: 5, at: 250) == .gathered)

        backlog.read(hasMore: false, now: 300)
        #expect(way(&backlog, outstanding: 5, at: 300) == .notYet)
        // Events wait again: it stays.
        findEvents(&backlog, at: 310)
        #expect(way(&backlog, outstanding: 5, at: 310) == .gathered)
        // And the next change has its whole time.
        backlog.read(hasMore: false, now: 600)
        #expect(way(&backlog, outstanding: 5, at: 600) == .notYet && way(&backlog, outstanding: 5, at: 799) == .notYet)
        #expect(way(&backlog, at: 799) == .atOnce)
    }

    @Test func aChangeThatTakesTooLongIsGivenUpForAWhile() {
        var backlog = EventBacklog()
        findEvents(&backlog, at: 1_000)
        #expect(way(&backlog, outstanding: 1, at: 1_000) == .notYet && way(&backlog, outstanding: 1, at: 1_199) == .notYet)
        #expect(way(&backlog, outstanding: 1, at: 1_200) == .atOnce)
        let again = 1_200 + EventBacklog.pauseMilliseconds
        #expect(way(&backlog, at: again - 1) == .atOnce)
        #expect(way(&backlog, outstanding: 1, at: again) == .notYet)
        #expect(way(&backlog, at: again + 1) == .gathered)
    }
}
