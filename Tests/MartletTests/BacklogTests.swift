import Martlet
import Testing

struct BacklogTests {
    private func waiting(_ backlog: PartitionBacklog, _ records: [(Int64, String)]) -> [Int64] {
        var backlog = backlog
        return records.filter { backlog.waits(offset: $0.0, endpointID: $0.1) }.map(\.0)
    }

    @Test func whatIsDoneAboveTheCommittedOffsetDoesNotWait() throws {
        let metadata = CommitMetadata(completed: .init(incomplete: [12, 15], highestCompleted: 17)).encoded(committed: 10)
        let backlog = try PartitionBacklog(committed: 10, metadata: metadata)
        #expect(backlog.start == 10)
        #expect(waiting(backlog, (10..<20).map { ($0, "ep_1") }) == [10, 12, 15, 18, 19])
    }

    @Test func whatIsHeldWaitsBelowTheCommittedOffset() throws {
        let hold = Hold(offset: 4, dueMilliseconds: 60_000, attempts: 3)
        let metadata = CommitMetadata(
            completed: .init(incomplete: [11], highestCompleted: 12), holds: [Hold.hash("ep_held"): hold]
        ).encoded(committed: 10)
        let backlog = try PartitionBacklog(committed: 10, metadata: metadata)
        #expect(backlog.start == 4)
        let records: [(Int64, String)] = [
            (4, "ep_held"), (5, "ep_1"), (6, "ep_held"), (10, "ep_1"), (11, "ep_1"), (12, "ep_held"), (13, "ep_1"),
        ]
        #expect(waiting(backlog, records) == [4, 6, 10, 11, 12, 13])
    }

    @Test func whatANewerVersionWroteIsAnError() {
        #expect(throws: CommitMetadata.Unreadable.self) { try PartitionBacklog(committed: 1, metadata: "x9:abc") }
    }

    @Test func theOldestAndTheNextDueAreFound() {
        var backlog = EndpointBacklog()
        for (attempt, from, due) in [(0, 500, 900), (2, 300, 4_000), (1, 400, 800)] as [(Int, Int64, Int64)] {
            var headers = DeliveryHeaders()
            (headers.attempt, headers.ageFromMilliseconds, headers.dueMilliseconds) = (attempt, from, due)
            headers.deliveryID = "dlv_\(from)"
            backlog.add(headers)
            backlog.add(headers)
        }
        #expect(backlog.waiting == 3 && backlog.retrying == 2)
        #expect(backlog.oldestMilliseconds == 300 && backlog.nextDueMilliseconds == 800)
    }
}
