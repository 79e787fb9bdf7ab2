public import HTTPDelivery

/// The registry as read so far from `martlet.endpoints`: pure, fed with records in their order.
public struct Registry: Sendable {
    /// A registered endpoint. An unreadable record keeps its old version if there is one; else only what its headers say is known, and it
    /// counts as paused.
    public enum Entry: Sendable {
        case readable(PreparedEndpoint)
        indirect case unreadable(id: String, tenant: String, types: [TypePattern], reason: String)

        public var id: String {
            switch self {
            case .readable(let prepared): prepared.endpoint.id
            case .unreadable(let id, _, _, _): id
            }
        }
        public var tenant: String {
            switch self {
            case .readable(let prepared): prepared.endpoint.tenant
            case .unreadable(_, let tenant, _, _): tenant
            }
        }
        public var types: [TypePattern] {
            switch self {
            case .readable(let prepared): prepared.endpoint.types
            case .unreadable(_, _, let types, _): types
            }
        }
        public var prepared: PreparedEndpoint? { if case .readable(let prepared) = self { prepared } else { nil } }
    }

    /// What one record changed.
    public enum Change: Sendable {
        case set(Entry)
        case deleted(id: String)
        /// The record could not be read; the entry, if any, is what counts now.
        case unreadable(id: String, reason: String, now: Entry?)
    }

    /// For threads of the caller's.
    public let decoder: RegistryRecord.Decoder
    public private(set) var entries: [String: Entry] = [:]
    public private(set) var index = SubscriptionIndex()
    /// Grows with every change of an entry.
    public private(set) var version = 0
    /// The offset after the last record read.
    public private(set) var position: Int64 = 0

    /// `keys`: what sealed secrets are opened with.
    public init(rules: EndpointURL.Rules, keys: KeyRing = KeyRing()) { decoder = RegistryRecord.Decoder(rules: rules, keys: keys) }

    /// Moves the position over offsets that hold no record (transaction markers, compaction).
    public mutating func advance(to offset: Int64) { position = max(position, offset) }

    /// `headers`: asked for only when the value can't be read.
    public mutating func apply(
        offset: Int64, key: [UInt8]?, value: UnsafeRawBufferPointer?, headers: @autoclosure () -> [(name: String, value: [UInt8])]
    ) -> Change {
        apply(decoder.decode(key: key, value: value, headers: headers()), offset: offset)
    }

    public mutating func apply(_ record: RegistryRecord, offset: Int64) -> Change {
        position = max(position, offset + 1)
        switch record {
        case .deleted(let id):
            remove(id)
            return .deleted(id: id)
        case .endpoint(let prepared):
            let entry = Entry.readable(prepared)
            put(entry)
            return .set(entry)
        case .unreadable(let id, let reason, let known):
            if let old = entries[id], case .readable = old { return .unreadable(id: id, reason: reason, now: old) }
            if let known { put(known) }
            return .unreadable(id: id, reason: reason, now: known)
        }
    }

    /// Takes over a change that another copy of the registry read; `position` is how far that copy had read.
    public mutating func take(_ change: Change, position: Int64) {
        advance(to: position)
        switch change {
        case .set(let entry): put(entry)
        case .deleted(let id): remove(id)
        case .unreadable(_, _, let entry): if let entry { put(entry) }
        }
    }

    private mutating func put(_ entry: Entry) {
        remove(entry.id)
        version += 1
        entries[entry.id] = entry
        index.insert(entry.id, tenant: entry.tenant, types: entry.types)
    }

    private mutating func remove(_ id: String) {
        guard let old = entries.removeValue(forKey: id) else { return }
        version += 1
        index.remove(id, tenant: old.tenant, types: old.types)
    }
}

extension Endpoint {
    /// The headers of its record in `martlet.endpoints`: what is known even to a reader that can't read the value.
    public var recordHeaders: [(name: String, value: [UInt8])] {
        [
            ("tenant", Array(tenant.utf8)), ("types", Array(types.map(\.description).joined(separator: ",").utf8)),
            ("version", Array(String(version).utf8)),
        ]
    }
}
