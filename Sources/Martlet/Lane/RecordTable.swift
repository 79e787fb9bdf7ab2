/// The lane's unfinished records. A place is used again, with another generation, so that a token of before finds nothing.
struct RecordTable {
    // Not optional: a look at a part of an optional value copies all of it.
    private struct Place {
        var generation: UInt32 = 1
        var isTaken = false
        var record = nothing
    }
    private static let nothing = LaneRecord(stream: StreamID(topic: 0, partition: 0), offset: 0, facts: DeliveryFacts(endpointID: ""))
    private var places: [Place] = []
    private var free: [UInt32] = []

    var count: Int { places.count - free.count }

    mutating func insert(_ record: LaneRecord) -> RecordToken {
        let slot = free.popLast() ?? UInt32(places.count)
        if slot == places.count { places.append(Place()) }
        places[Int(slot)].record = record
        places[Int(slot)].isTaken = true
        return RecordToken(slot: slot, generation: places[Int(slot)].generation)
    }

    /// Takes it out; nil: it is gone.
    mutating func remove(_ token: RecordToken) -> LaneRecord? {
        guard has(token) else { return nil }
        var record = Self.nothing
        swap(&record, &places[Int(token.slot)].record)
        places[Int(token.slot)].isTaken = false
        places[Int(token.slot)].generation &+= 1
        free.append(token.slot)
        return record
    }

    func has(_ token: RecordToken) -> Bool {
        let slot = Int(token.slot)
        return slot < places.count && places[slot].isTaken && places[slot].generation == token.generation
    }

    /// A copy.
    subscript(token: RecordToken) -> LaneRecord? { has(token) ? places[Int(token.slot)].record : nil }

    /// Looks at a part of the record where it lies; nil: it is gone.
    @inline(__always)
    func look<Result>(_ token: RecordToken, _ body: (borrowing LaneRecord) -> Result) -> Result? {
        guard has(token) else { return nil }
        return body(places[Int(token.slot)].record)
    }

    /// Changes the record where it lies; nil: it is gone.
    @inline(__always) @discardableResult
    mutating func update<Result>(_ token: RecordToken, _ body: (inout LaneRecord) -> Result) -> Result? {
        guard has(token) else { return nil }
        return body(&places[Int(token.slot)].record)
    }

    /// Of those records that are meant, by their places.
    func tokens(where isMeant: (borrowing LaneRecord) -> Bool) -> [RecordToken] {
        places.indices.compactMap {
            places[$0].isTaken && isMeant(places[$0].record) ? RecordToken(slot: UInt32($0), generation: places[$0].generation) : nil
        }
    }

    func contains(where isMeant: (borrowing LaneRecord) -> Bool) -> Bool {
        places.contains { $0.isTaken && isMeant($0.record) }
    }
}
