/// A value for each owned partition of each topic, found by counting: the lane looks several up for every record.
struct StreamTable<Value: Sendable>: Sendable {
    // Not optional: a look at a part of an optional value copies all of it.
    private struct Place: Sendable {
        var isTaken = false
        var value: Value
    }
    private let nothing: Value
    private var rows: [[Place]] = []

    /// `nothing`: what lies where no value is.
    init(nothing: Value) { self.nothing = nothing }

    /// For what happens seldom: it copies, or allocates.
    subscript(stream: StreamID) -> Value? {
        get { has(stream) ? rows[stream.topic][Int(stream.partition)].value : nil }
        _modify {
            while rows.count <= stream.topic { rows.append([]) }
            while rows[stream.topic].count <= stream.partition { rows[stream.topic].append(Place(value: nothing)) }
            // Taken out and put back, so that its arrays aren't copied.
            var value: Value?
            if has(stream) {
                value = nothing
                swap(&value!, &rows[stream.topic][Int(stream.partition)].value)
            }
            defer { rows[stream.topic][Int(stream.partition)] = Place(isTaken: value != nil, value: value ?? nothing) }
            yield &value
        }
    }

    /// Changes the value where it lies; nil: there is none.
    @inline(__always) @discardableResult
    mutating func update<Result>(_ stream: StreamID, _ body: (inout Value) -> Result) -> Result? {
        guard has(stream) else { return nil }
        return body(&rows[stream.topic][Int(stream.partition)].value)
    }

    /// Looks at a part of the value where it lies; nil: there is none.
    @inline(__always)
    func look<Result>(_ stream: StreamID, _ body: (borrowing Value) -> Result) -> Result? {
        guard stream.topic < rows.count else { return nil }
        // Not by two subscripts, which would copy the element for a look at a part of it.
        return rows[stream.topic].withUnsafeBufferPointer { row in
            guard stream.partition >= 0, stream.partition < row.count, row[Int(stream.partition)].isTaken else { return nil }
            return body(row[Int(stream.partition)].value)
        }
    }

    /// Whether there is one, without taking it out.
    func has(_ stream: StreamID) -> Bool { look(stream) { _ in true } == true }

    /// In order.
    var keys: [StreamID] {
        rows.indices.flatMap { topic in
            rows[topic].indices.compactMap { rows[topic][$0].isTaken ? StreamID(topic: topic, partition: Int32($0)) : nil }
        }
    }

    var values: [Value] { rows.flatMap { $0.compactMap { $0.isTaken ? $0.value : nil } } }
}
