/// Deadlines of one transport, the earliest first. Nothing is taken out before its time: whoever set it tells then whether it still counts.
struct DeadlineHeap {
    struct Entry {
        var at: Int64
        /// A request's token while it waits for a connection; else the token that its connection is watched with.
        var key: UInt64
        var isWaiting: Bool
    }

    private var entries: [Entry] = []

    var first: Entry? { entries.first }

    mutating func insert(_ entry: Entry) {
        var child = entries.count
        entries.append(entry)
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[parent].at > entry.at else { break }
            entries[child] = entries[parent]
            child = parent
        }
        entries[child] = entry
    }

    mutating func removeFirst() {
        guard let last = entries.popLast(), !entries.isEmpty else { return }
        var parent = 0
        while true {
            var least = 2 * parent + 1
            guard least < entries.count else { break }
            if least + 1 < entries.count, entries[least + 1].at < entries[least].at { least += 1 }
            guard entries[least].at < last.at else { break }
            entries[parent] = entries[least]
            parent = least
        }
        entries[parent] = last
    }
}
