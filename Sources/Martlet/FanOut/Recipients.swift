/// The endpoints that get the events of one tenant and type, with what fan-out needs to know of each.
public final class Recipients: Sendable {
    /// In ascending order.
    public let endpointIDs: [String]
    /// Of the deliveries topic.
    public let partitions: [Int32]
    public let formats: [Endpoint.BodyFormat]
    /// Each once.
    public let distinctFormats: [Endpoint.BodyFormat]

    init(_ endpointIDs: [String], partition: (String) -> Int32, format: (String) -> Endpoint.BodyFormat) {
        self.endpointIDs = endpointIDs
        let formats = endpointIDs.map(format)
        (self.partitions, self.formats) = (endpointIDs.map(partition), formats)
        distinctFormats = Endpoint.BodyFormat.allCases.filter(formats.contains)
    }
}

/// Finds them once for each tenant and type, and again when the registry has changed.
public struct RecipientTable: Sendable {
    private struct Key: Hashable {
        var tenant: String
        var type: String
    }

    /// Of what is remembered. Beyond it all is found anew.
    static let (typeLimit, endpointLimit) = (10_000, 1_000_000)

    private let partition: @Sendable (String) -> Int32
    private var known: [Key: Recipients] = [:]
    var types: Int { known.count }
    private var endpoints = 0
    private var version = 0

    /// `partition`: of the deliveries to an endpoint.
    public init(partition: @escaping @Sendable (String) -> Int32) { self.partition = partition }

    /// nil: unknown, or the registry has another version now.
    public func recipients(of event: borrowing EventRecord, version: Int) -> Recipients? {
        version == self.version ? known[Key(tenant: event.tenant, type: event.type)] : nil
    }

    public mutating func find(_ event: borrowing EventRecord, in registry: Registry) -> Recipients {
        if version != registry.version || known.count >= Self.typeLimit || endpoints >= Self.endpointLimit {
            known.removeAll(keepingCapacity: true)
            (endpoints, version) = (0, registry.version)
        }
        let key = Key(tenant: event.tenant, type: event.type)
        let found = Recipients(registry.index.matches(tenant: key.tenant, type: key.type), partition: partition) {
            registry.entries[$0]?.prepared?.endpoint.bodyFormat ?? .standard
        }
        known[key] = found
        endpoints += found.endpointIDs.count
        return found
    }
}
