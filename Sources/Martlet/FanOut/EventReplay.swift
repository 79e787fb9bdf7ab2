/// Past events to one endpoint: which of them, and as what deliveries. Decides and counts, and does nothing itself.
public struct EventReplay: Sendable {
    public struct Range: Sendable, Equatable {
        /// Timestamps of the event records, Unix milliseconds; `until` is not included.
        public var since: Int64
        public var until: Int64?
        /// Narrows the endpoint's own types; empty: all of those.
        public var types: [TypePattern]
        public init(since: Int64, until: Int64? = nil, types: [TypePattern] = []) {
            (self.since, self.until, self.types) = (since, until, types)
        }

        /// The same for the same replay: what its transactional id and its offsets are kept under.
        public func job(endpointID: String) -> String {
            Identifiers.hash("", [endpointID, String(since), until.map { String($0) } ?? ""] + types.map(\.description).sorted())
        }
    }

    public struct Counts: Sendable, Equatable {
        public var read = 0
        public var replayed = 0
        public var outsideTime = 0
        public var otherTenant = 0
        public var otherType = 0
        public var poison = 0
        public init() {}
    }

    private let endpoint: Endpoint
    private let registryOffset: Int64
    private let range: Range
    public private(set) var counts = Counts()

    /// `registryOffset`: how far the registry had been read.
    public init(to endpoint: Endpoint, registryOffset: Int64, _ range: Range) {
        (self.endpoint, self.registryOffset, self.range) = (endpoint, registryOffset, range)
    }

    /// The delivery of an event record, as new: no attempt made, due at once, of age 0; nil: it isn't meant. `decode` is called for records
    /// inside the time range only.
    public mutating func delivery(
        of decode: () throws(Event.Poison) -> Event, topic: String, partition: Int32, offset: Int64, timestampMilliseconds: Int64,
        nowMilliseconds now: Int64
    ) -> FanOut.Delivery? {
        counts.read += 1
        guard timestampMilliseconds >= range.since, timestampMilliseconds < range.until ?? .max else {
            counts.outsideTime += 1
            return nil
        }
        guard let event = try? decode() else {
            counts.poison += 1
            return nil
        }
        guard event.tenant == endpoint.tenant else {
            counts.otherTenant += 1
            return nil
        }
        guard endpoint.matches(type: event.type), range.types.isEmpty || range.types.contains(where: { $0.matches(event.type) }) else {
            counts.otherType += 1
            return nil
        }
        let accepted = FanOut.Acceptance(
            topic: topic, partition: partition, offset: offset, milliseconds: min(timestampMilliseconds, now))
        let composer = FanOut(event, as: [endpoint.bodyFormat], at: accepted, registryOffset: registryOffset)
        guard var delivery = composer.delivery(to: endpoint.id, as: endpoint.bodyFormat) else { return nil }
        counts.replayed += 1
        (delivery.headers.dueMilliseconds, delivery.headers.ageFromMilliseconds) = (now, now)
        delivery.headers.replayedFrom = delivery.headers.origin
        return delivery
    }
}
