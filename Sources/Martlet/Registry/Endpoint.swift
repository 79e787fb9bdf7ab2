public import HTTPDelivery
public import JSON
public import WebhookSigning

/// An endpoint as it stands in `martlet.endpoints`.
public struct Endpoint: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable { case enabled, paused, disabled }
    public enum Ordering: String, Sendable, CaseIterable { case none, strict }
    public enum BodyFormat: String, Sendable, CaseIterable {
        case standard, raw
        case cloudEventsBinary = "cloudevents-binary"
        case cloudEventsStructured = "cloudevents-structured"
    }
    public struct StoredSecret: Sendable, Equatable {
        public var id: String
        public var createdMilliseconds: Int64
        public var expiresMilliseconds: Int64?
        public var text: SecretText
        public init(id: String, createdMilliseconds: Int64, expiresMilliseconds: Int64? = nil, text: SecretText) {
            (self.id, self.createdMilliseconds) = (id, createdMilliseconds)
            (self.expiresMilliseconds, self.text) = (expiresMilliseconds, text)
        }
        public init(id: String, createdMilliseconds: Int64, expiresMilliseconds: Int64? = nil, plain: String) {
            self.init(id: id, createdMilliseconds: createdMilliseconds, expiresMilliseconds: expiresMilliseconds, text: .plain(plain))
        }
    }
    /// A header of every request; its value may be a credential.
    public struct StoredHeader: Sendable, Equatable {
        public var name: String
        public var text: SecretText
        public init(_ name: String, _ value: String) { (self.name, text) = (name, .plain(value)) }
        public init(_ name: String, _ text: SecretText) { (self.name, self.text) = (name, text) }
    }

    public var id: String
    public var tenant = Event.defaultTenant
    public var url: String
    public var description: String?
    public var types: [TypePattern] = [.all]
    public var state = State.enabled
    /// Why an operator paused or disabled it.
    public var reason: String?
    /// Newest first.
    public var secrets: [StoredSecret] = []
    public var signature = SignatureScheme.standard
    public var auth: Authentication?
    public var tls: EndpointTLS?
    public var headers: [StoredHeader] = []
    public var bodyFormat = BodyFormat.standard
    public var schedule = RetrySchedule.standard
    public var maxAgeMilliseconds: Int64 = 7 * 86_400_000
    public var timeouts = Timeouts()
    public var rate: RateLimit?
    public var maxConcurrency = ConcurrencyLimit.defaultCeiling
    /// `strict`: one delivery at a time, in the order of one events partition.
    public var ordering = Ordering.none
    /// nil: the worker's choice.
    public var transport: TransportKind?
    /// Whether `traceparent` and `tracestate` go out.
    public var sendsTrace = false
    public var createdMilliseconds: Int64 = 0
    public var updatedMilliseconds: Int64 = 0
    /// Raised by every write; what compare-and-set compares.
    public var version = 1
    /// Fields of the record that this version doesn't know; they survive a rewrite.
    public var unknown: [JSONValue.Member] = []

    public init(id: String, url: String) { (self.id, self.url) = (id, url) }

    public var isStrict: Bool { ordering == .strict }
    /// The maximum age of an ordered endpoint lies below three quarters of the retention of `martlet.deliveries`: its backlog is read again
    /// from there.
    public static let strictMaxAgeLimitMilliseconds = Topics.laneRetentionMilliseconds / 4 * 3

    /// The longest that a replaced secret may go on signing: seven days.
    public static let graceLimitMilliseconds: Int64 = 7 * 86_400_000

    /// `new` signs from now on; the others beside it until `grace` is over, or until they end anyway.
    public mutating func rotateSecret(to new: StoredSecret, graceMilliseconds grace: Int64, nowMilliseconds now: Int64) {
        let old = secrets.compactMap { secret -> StoredSecret? in
            var secret = secret
            let end = min(secret.expiresMilliseconds ?? .max, now + grace)
            secret.expiresMilliseconds = end
            return end > now ? secret : nil
        }
        secrets = [new] + old
    }

    public func matches(type: String) -> Bool { types.contains { $0.matches(type) } }
}

/// Which event types an endpoint receives: exact, `prefix.*`, or `*`; case-sensitive.
public enum TypePattern: Sendable, Hashable, CustomStringConvertible {
    case exact(String)
    /// Without the `.*`: `order` matches `order.created` and `order.item.added`, not `order`.
    case prefix(String)
    case all

    public init?(_ text: String) {
        if text == "*" {
            self = .all
        } else if text.hasSuffix(".*") {
            let prefix = String(text.dropLast(2))
            guard !prefix.isEmpty, !prefix.contains("*"), prefix.utf8.count <= Event.attributeLimitBytes else { return nil }
            self = .prefix(prefix)
        } else {
            guard !text.isEmpty, !text.contains("*"), text.utf8.count <= Event.attributeLimitBytes else { return nil }
            self = .exact(text)
        }
    }

    public func matches(_ type: String) -> Bool {
        switch self {
        case .all: true
        case .exact(let exact): type == exact
        case .prefix(let prefix): type.utf8.count > prefix.utf8.count + 1 && type.hasPrefix(prefix + ".")
        }
    }

    public var description: String {
        switch self {
        case .all: "*"
        case .exact(let text): text
        case .prefix(let text): text + ".*"
        }
    }
}

/// `n` starts per `perMilliseconds`, of which `burst` may come at once.
public struct RateLimit: Sendable, Equatable {
    public var n: Int
    public var perMilliseconds: Int64
    public var burst: Int
    /// Without a burst: 1, or what 10 ms bring of a high rate, as starts are decided in whole milliseconds.
    public init(n: Int, perMilliseconds: Int64, burst: Int? = nil) {
        (self.n, self.perMilliseconds, self.burst) = (n, perMilliseconds, burst ?? max(1, n * 10 / Int(max(1, perMilliseconds))))
    }

    /// `100/s`, `6000/m`, `50/h`.
    public init?(_ text: String, burst: Int? = nil) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let n = Int(parts[0]), (1...1_000_000).contains(n) else { return nil }
        let units: [Substring: Int64] = ["s": 1_000, "m": 60_000, "h": 3_600_000]
        guard let per = units[parts[1]] else { return nil }
        self.init(n: n, perMilliseconds: per, burst: burst)
    }
}
