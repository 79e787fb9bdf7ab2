/// What is to be written of events that were read: some at a time, in runs of one partition, so that what goes out in one request lies
/// together. Of each partition in the order in which it came.
public struct UnsentDeliveries: Sendable {
    public struct Item: Sendable, Equatable {
        public var slot: UInt32
        /// Of the event's records.
        public var index: Int
        public var partition: Int32
        public init(slot: UInt32, index: Int, partition: Int32) { (self.slot, self.index, self.partition) = (slot, index, partition) }
    }

    /// An event with 100,000 deliveries goes out in many runs: a new owner then repeats the last few of them, not all, unless an early
    /// one is held up.
    public static let runLimit = 1_024

    /// Records `next` up to `count` of the event in `slot`.
    private var events: [(slot: UInt32, next: Int, count: Int)] = []
    private var run: [Item] = []
    private var place = 0

    public init() {}

    public var isEmpty: Bool { events.isEmpty && place == run.count }

    public mutating func append(_ slot: UInt32, from: Int, count: Int) {
        if from < count { events.append((slot, from, count)) }
    }

    /// Calls `send` until it returns false, and then again with the same one. `partition`: of a record of an event.
    public mutating func send(partition: (UInt32, Int) -> Int32, _ send: (Item) -> Bool) {
        while true {
            while place < run.count {
                guard send(run[place]) else { return }
                place += 1
            }
            (place, run) = (0, gather(partition))
            if run.isEmpty { return }
        }
    }

    private mutating func gather(_ partition: (UInt32, Int) -> Int32) -> [Item] {
        var items: [Item] = []
        var done = 0
        while done < events.count, items.count < Self.runLimit {
            let (slot, next, count) = events[done]
            let end = min(count, next + Self.runLimit - items.count)
            for index in next..<end { items.append(Item(slot: slot, index: index, partition: partition(slot, index))) }
            events[done].next = end
            if end == count { done += 1 }
        }
        events.removeFirst(done)
        guard items.count > 1 else { return items }
        // By partition, then by place.
        let keys = items.indices.map { Int(items[$0].partition) << 32 | $0 }.sorted()
        return keys.map { items[$0 & 0xffff_ffff] }
    }
}
