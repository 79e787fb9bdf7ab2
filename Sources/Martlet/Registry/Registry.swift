public import HTTPDelivery
internal import JSON

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

    private let rules: EndpointURL.Rules
    private let keys: KeyRing
    public private(set) var entries: [String: Entry] = [:]
    public private(set) var index = SubscriptionIndex()
    /// The offset after the last record read.
    public private(set) var position: Int64 = 0

    /// `keys`: what sealed secrets are opened with.
    public init(rules: EndpointURL.Rules, keys: KeyRing = KeyRing()) { (self.rules, self.keys) = (rules, keys) }

    /// Moves the position over offsets that hold no record (transaction markers, compaction).
    public mutating func advance(to offset: Int64) { position = max(position, offset) }

    /// `headers`: asked for only when the value can't be read.
    public mutating func apply(
        offset: Int64, key: [UInt8]?, value: UnsafeRawBufferPointer?, headers: @autoclosure () -> [(name: String, value: [UInt8])]
    ) -> Change {
        position = max(position, offset + 1)
        guard let key, let id = String(validating: key, as: UTF8.self), Identifiers.isName(id) else {
            return .unreadable(id: "", reason: "the record's key isn't an endpoint id", now: nil)
        }
        guard let value else {
            remove(id)
            return .deleted(id: id)
        }
        do {
            let endpoint = try decode(value).opened(keys)
            guard endpoint.id == id else { throw Endpoint.Invalid("id", "differs from the record's key") }
            let entry = Entry.readable(PreparedEndpoint(endpoint, rules: rules))
            put(entry)
            return .set(entry)
        } catch {
            if let old = entries[id], case .readable = old { return .unreadable(id: id, reason: "\(error)", now: old) }
            let texts = Dictionary(headers().map { ($0.name, String(decoding: $0.value, as: UTF8.self)) }) { first, _ in first }
            guard let tenant = texts["tenant"],
                let types = try? Endpoint.patterns((texts["types"] ?? "").split(separator: ",").map(String.init))
            else {
                return .unreadable(id: id, reason: "\(error)", now: nil)
            }
            let entry = Entry.unreadable(id: id, tenant: tenant, types: types, reason: "\(error)")
            put(entry)
            return .unreadable(id: id, reason: "\(error)", now: entry)
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

    private func decode(_ value: UnsafeRawBufferPointer) throws(Endpoint.Invalid) -> Endpoint {
        let json: JSONValue
        do { json = try JSONValue.parse(value) } catch { throw Endpoint.Invalid("record", "not JSON: \(error)") }
        return try Endpoint(json: json)
    }

    private mutating func put(_ entry: Entry) {
        remove(entry.id)
        entries[entry.id] = entry
        index.insert(entry.id, tenant: entry.tenant, types: entry.types)
    }

    private mutating func remove(_ id: String) {
        guard let old = entries.removeValue(forKey: id) else { return }
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
