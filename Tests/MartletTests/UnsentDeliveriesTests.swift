import Martlet
import Testing

struct UnsentDeliveriesTests {
    /// The record's partition: its index modulo 3.
    private func sent(_ unsent: inout UnsentDeliveries, while more: (Int) -> Bool = { _ in true }) -> [UnsentDeliveries.Item] {
        var items: [UnsentDeliveries.Item] = []
        unsent.send(partition: { _, index in Int32(index % 3) }) { item in
            guard more(items.count) else { return false }
            items.append(item)
            return true
        }
        return items
    }

    @Test func runsOfAPartitionLieTogetherAndKeepTheirOrder() {
        var unsent = UnsentDeliveries()
        unsent.append(7, from: 0, count: 4)
        unsent.append(5, from: 1, count: 3)
        #expect(
            sent(&unsent) == [
                .init(slot: 7, index: 0, partition: 0), .init(slot: 7, index: 3, partition: 0), .init(slot: 7, index: 1, partition: 1),
                .init(slot: 5, index: 1, partition: 1), .init(slot: 7, index: 2, partition: 2), .init(slot: 5, index: 2, partition: 2),
            ])
        #expect(unsent.isEmpty)
    }

    @Test func goesOnWhereTheProducerHadNoRoom() {
        var unsent = UnsentDeliveries()
        unsent.append(0, from: 0, count: 10)
        var whole = unsent
        let all = sent(&whole)
        var items = sent(&unsent) { $0 < 4 }
        #expect(items.count == 4 && !unsent.isEmpty)
        // What comes meanwhile waits its turn.
        unsent.append(1, from: 0, count: 1)
        items += sent(&unsent)
        #expect(items == all + [.init(slot: 1, index: 0, partition: 0)])
        #expect(unsent.isEmpty)
    }

    @Test func aLargeEventGoesOutFromItsFirstEndpointOn() {
        var unsent = UnsentDeliveries()
        unsent.append(0, from: 500, count: 100_000)
        let items = sent(&unsent)
        #expect(items.map(\.index).sorted() == Array(500..<100_000))
        for (place, item) in items.enumerated() {
            #expect(abs(item.index - 500 - place) < UnsentDeliveries.runLimit)
        }
    }

    @Test func nothingIsNoRecord() {
        var unsent = UnsentDeliveries()
        unsent.append(0, from: 3, count: 3)
        #expect(unsent.isEmpty)
        #expect(sent(&unsent) == [])
    }

    @Test func dozensOfPartitionsAndDeadLetters() {
        var unsent = UnsentDeliveries()
        for slot in 0..<200 as Range<UInt32> { unsent.append(slot, from: 0, count: 1) }
        var partitions: [Int32] = []
        unsent.send(partition: { slot, _ in slot % 10 == 0 ? -1 : Int32(slot % 24) }) { item in
            partitions.append(item.partition)
            return true
        }
        #expect(partitions == partitions.sorted())
        #expect(partitions.count == 200 && partitions.first == -1)
    }
}
