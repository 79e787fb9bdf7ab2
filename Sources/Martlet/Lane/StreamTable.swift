/// A value for each owned partition of each topic, found by counting: the lane looks several up for every record.
struct StreamTable<Value> {
    private var rows: [[Value?]] = []

    subscript(stream: StreamID) -> Value? {
        get {
            guard stream.topic < rows.count, stream.partition < rows[stream.topic].count else { return nil }
            return rows[stream.topic][Int(stream.partition)]
        }
        _modify {
            while rows.count <= stream.topic { rows.append([]) }
            while rows[stream.topic].count <= stream.partition { rows[stream.topic].append(nil) }
            yield &rows[stream.topic][Int(stream.partition)]
        }
    }

    /// Whether there is one, without taking it out.
    func has(_ stream: StreamID) -> Bool {
        stream.topic < rows.count && stream.partition < rows[stream.topic].count && rows[stream.topic][Int(stream.partition)] != nil
    }

    /// In order.
    var keys: [StreamID] {
        rows.indices.flatMap { topic in
            rows[topic].indices.compactMap { rows[topic][$0] == nil ? nil : StreamID(topic: topic, partition: Int32($0)) }
        }
    }

    var values: [Value] { rows.flatMap { $0.compactMap(\.self) } }
}
