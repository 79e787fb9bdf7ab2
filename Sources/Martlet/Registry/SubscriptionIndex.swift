/// Finds the endpoints subscribed to an event's type, per tenant. The cost of a look-up grows with the number of matches and of dots in
/// the type, not with the number of endpoints.
public struct SubscriptionIndex: Sendable {
    private struct Tenant: Sendable {
        var exact: [String: Set<String>] = [:]
        var prefix: [String: Set<String>] = [:]
        var all: Set<String> = []
        var isEmpty: Bool { exact.isEmpty && prefix.isEmpty && all.isEmpty }
    }

    private var tenants: [String: Tenant] = [:]

    public init() {}

    public mutating func insert(_ id: String, tenant: String, types: [TypePattern]) {
        for pattern in types {
            switch pattern {
            case .exact(let type): tenants[tenant, default: Tenant()].exact[type, default: []].insert(id)
            case .prefix(let prefix): tenants[tenant, default: Tenant()].prefix[prefix, default: []].insert(id)
            case .all: tenants[tenant, default: Tenant()].all.insert(id)
            }
        }
    }

    public mutating func remove(_ id: String, tenant: String, types: [TypePattern]) {
        func without(_ id: String, _ ids: Set<String>?) -> Set<String>? {
            var rest = ids ?? []
            rest.remove(id)
            return rest.isEmpty ? nil : rest
        }
        guard var entry = tenants.removeValue(forKey: tenant) else { return }
        for pattern in types {
            switch pattern {
            case .exact(let type): entry.exact[type] = without(id, entry.exact[type])
            case .prefix(let prefix): entry.prefix[prefix] = without(id, entry.prefix[prefix])
            case .all: entry.all.remove(id)
            }
        }
        if !entry.isEmpty { tenants[tenant] = entry }
    }

    /// The ids in ascending order, each once.
    public func matches(tenant: String, type: String) -> [String] {
        guard let entry = tenants[tenant] else { return [] }
        var found = entry.all
        if let ids = entry.exact[type] { found.formUnion(ids) }
        if !entry.prefix.isEmpty {
            var end = type.startIndex
            while let dot = type[end...].firstIndex(of: ".") {
                let after = type.index(after: dot)
                if after < type.endIndex, let ids = entry.prefix[String(type[..<dot])] { found.formUnion(ids) }
                end = after
            }
        }
        return found.sorted()
    }
}
