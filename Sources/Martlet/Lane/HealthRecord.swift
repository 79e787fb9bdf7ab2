public import JSON

/// What outlives a worker of an endpoint's health: its record in `martlet.health`.
public struct HealthRecord: Sendable, Equatable {
    public enum Breaker: String, Sendable, CaseIterable { case closed, open, halfOpen = "half-open" }
    public struct Disabled: Sendable, Equatable {
        public var reason: String
        public var atMilliseconds: Int64
        /// The version of the endpoint that was judged: a later edit by an operator cancels it.
        public var endpointVersion: Int
        public init(reason: String, atMilliseconds: Int64, endpointVersion: Int) {
            (self.reason, self.atMilliseconds, self.endpointVersion) = (reason, atMilliseconds, endpointVersion)
        }
    }

    public var endpointID: String
    public var breaker = Breaker.closed
    public var openUntilMilliseconds: Int64 = 0
    public var opens = 0
    public var failingSinceMilliseconds: Int64?
    public var attemptsSinceSuccess = 0
    public var disabled: Disabled?
    /// The worker that wrote it.
    public var writer: String
    public var updatedMilliseconds: Int64

    public init(endpointID: String, writer: String, updatedMilliseconds: Int64) {
        (self.endpointID, self.writer, self.updatedMilliseconds) = (endpointID, writer, updatedMilliseconds)
    }

    public var json: JSONValue {
        .object([
            .init("v", .integer(1)), .init("endpointId", .string(endpointID)), .init("breaker", .string(breaker.rawValue)),
            .init("openUntilMs", .integer(openUntilMilliseconds)), .init("opens", .integer(opens)),
            .init("failingSinceMs", failingSinceMilliseconds.map { .integer($0) } ?? .null),
            .init("attemptsSinceSuccess", .integer(attemptsSinceSuccess)),
            .init(
                "disabled",
                disabled.map {
                    .object([
                        .init("reason", .string($0.reason)), .init("atMs", .integer($0.atMilliseconds)),
                        .init("endpointVersion", .integer($0.endpointVersion)),
                    ])
                } ?? .null), .init("writer", .string(writer)), .init("updatedMs", .integer(updatedMilliseconds)),
        ])
    }

    /// nil: not a record that this version understands; it is passed over and counted.
    public init?(json: JSONValue) {
        guard json["v"]?.intValue == 1, let id = json["endpointId"]?.stringValue,
            let breaker = json["breaker"]?.stringValue.flatMap(Breaker.init)
        else { return nil }
        self.init(endpointID: id, writer: json["writer"]?.stringValue ?? "", updatedMilliseconds: Int64(json["updatedMs"]?.intValue ?? 0))
        self.breaker = breaker
        func number(_ name: String) -> Int64? { json[name]?.intValue.map { min(max(0, Int64($0)), DeliveryHeaders.numberLimit) } }
        openUntilMilliseconds = number("openUntilMs") ?? 0
        opens = Int(min(number("opens") ?? 0, 1_000))
        failingSinceMilliseconds = number("failingSinceMs")
        attemptsSinceSuccess = Int(number("attemptsSinceSuccess") ?? 0)
        if let disabled = json["disabled"], let reason = disabled["reason"]?.stringValue,
            let version = disabled["endpointVersion"]?.intValue
        {
            self.disabled = Disabled(reason: reason, atMilliseconds: Int64(disabled["atMs"]?.intValue ?? 0), endpointVersion: version)
        }
    }
}
