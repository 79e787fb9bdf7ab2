public import HTTPDelivery
internal import JSON

/// What a record of `martlet.endpoints` says by itself, whatever was known of its endpoint before.
public enum RegistryRecord: Sendable {
    case endpoint(PreparedEndpoint)
    case deleted(id: String)
    /// `known`: what its headers say, where they do. The id is empty when the key is none.
    case unreadable(id: String, reason: String, known: Registry.Entry?)

    /// Pure: records can be read by several threads at once, and are applied in their order.
    public struct Decoder: Sendable {
        private let rules: EndpointURL.Rules
        private let keys: KeyRing

        /// `keys`: what sealed secrets are opened with.
        public init(rules: EndpointURL.Rules, keys: KeyRing) { (self.rules, self.keys) = (rules, keys) }

        /// `headers`: asked for only when the value can't be read.
        public func decode(
            key: [UInt8]?, value: UnsafeRawBufferPointer?, headers: @autoclosure () -> [(name: String, value: [UInt8])]
        ) -> RegistryRecord {
            guard let key, let id = String(validating: key, as: UTF8.self), Identifiers.isName(id) else {
                return .unreadable(id: "", reason: "the record's key isn't an endpoint id", known: nil)
            }
            guard let value else { return .deleted(id: id) }
            do {
                let endpoint = try endpoint(value).opened(keys)
                guard endpoint.id == id else { throw Endpoint.Invalid("id", "differs from the record's key") }
                return .endpoint(PreparedEndpoint(endpoint, rules: rules))
            } catch {
                return .unreadable(id: id, reason: "\(error)", known: known(id, headers(), "\(error)"))
            }
        }

        private func endpoint(_ value: UnsafeRawBufferPointer) throws(Endpoint.Invalid) -> Endpoint {
            let json: JSONValue
            do { json = try JSONValue.parse(value) } catch { throw Endpoint.Invalid("record", "not JSON: \(error)") }
            return try Endpoint(json: json)
        }

        private func known(_ id: String, _ headers: [(name: String, value: [UInt8])], _ reason: String) -> Registry.Entry? {
            let texts = Dictionary(headers.map { ($0.name, String(decoding: $0.value, as: UTF8.self)) }) { first, _ in first }
            guard let tenant = texts["tenant"],
                let types = try? Endpoint.patterns((texts["types"] ?? "").split(separator: ",").map(String.init))
            else { return nil }
            return .unreadable(id: id, tenant: tenant, types: types, reason: reason)
        }
    }
}
