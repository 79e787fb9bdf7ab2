public import JSON

/// What an endpoint's owner tells its tenant about it, published to the events topic like any event.
///
/// | type | when |
/// |---|---|
/// | `martlet.endpoint.failing` | its breaker opened |
/// | `martlet.endpoint.recovered` | its breaker closed again |
/// | `martlet.endpoint.disabled` | it was disabled: `gone`, `failing` or `hold-limit` |
public struct OperationalEvent: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable { case failing, recovered, disabled }

    public var kind: Kind
    public var endpointID: String
    public var tenant: String
    public var url: String
    public var reason: String?
    public var atMilliseconds: Int64
    public var failingSinceMilliseconds: Int64?
    public var attemptsSinceSuccess: Int

    public var type: String { "martlet.endpoint.\(kind.rawValue)" }
    public var source: String { "/martlet/endpoints/\(endpointID)" }
    /// One per transition: a repetition after a crash carries the same.
    public var eventID: String { Identifiers.hash("", [kind.rawValue, endpointID, String(atMilliseconds)]) }

    /// The event's data.
    public var json: JSONValue {
        .object([
            .init("endpointId", .string(endpointID)), .init("tenant", .string(tenant)), .init("url", .string(url)),
            .init("reason", reason.map { .string($0) } ?? .null), .init("at", .string(Timestamp.text(milliseconds: atMilliseconds))),
            .init("failingSince", failingSinceMilliseconds.map { .string(Timestamp.text(milliseconds: $0)) } ?? .null),
            .init("attemptsSinceSuccess", .integer(attemptsSinceSuccess)),
        ])
    }
}
