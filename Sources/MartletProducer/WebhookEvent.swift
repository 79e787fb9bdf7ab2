internal import FoundationEssentials
internal import Martlet

/// An event as a service publishes it.
public struct WebhookEvent: Sendable, Equatable {
    /// With tenant and source it makes the `webhook-id`: publish the same event again with the same id, and receivers can drop the second.
    public var id: String
    /// Dotted, such as `order.created`. At most 1,024 bytes, like every attribute.
    public var type: String
    /// Who publishes: a URI reference such as `/shop/checkout`. nil: the producer's own.
    public var source: String?
    /// Whose endpoints receive it: 1 to 64 of A-Z a-z 0-9 _ -. nil: the producer's own.
    public var tenant: String?
    /// RFC 3339; sent on as it is. nil: the time of publishing.
    public var time: String?
    public var subject: String?
    /// Events of one tenant with one key keep their order on the way to the topic. nil: the subject; without one, no order.
    public var key: String?
    /// Of `data`; JSON is checked.
    public var contentType: String?
    /// At most 1,000,000 bytes; nil is an event without data.
    public var data: [UInt8]?
    /// W3C Trace Context, passed on to endpoints that ask for it.
    public var traceParent: String?
    public var traceState: String?

    public init(
        id: String, type: String, source: String? = nil, tenant: String? = nil, data: [UInt8]? = nil,
        contentType: String? = "application/json"
    ) {
        (self.id, self.type, self.source, self.tenant) = (id, type, source, tenant)
        (self.data, self.contentType) = (data, data == nil ? nil : contentType)
    }

    /// With a value that is encoded as JSON.
    public init(id: String, type: String, source: String? = nil, tenant: String? = nil, json value: some Encodable) throws {
        self.init(id: id, type: type, source: source, tenant: tenant, data: Array(try JSONEncoder().encode(value)))
    }

    /// An id that depends on `parts` alone: a retry of the publisher, even from another process, gives the same one.
    /// `deterministicID("order", "4711", "paid")`
    public static func deterministicID(_ parts: String...) -> String { Identifiers.event(parts) }
}

/// Where the brokers keep a published event.
public struct Receipt: Sendable, Equatable {
    public var topic: String
    public var partition: Int32
    public var offset: Int64
    /// The `webhook-id` that receivers will see.
    public var messageID: String
}

/// Why an event was not published.
public struct PublishError: Error, Sendable, Equatable, CustomStringConvertible {
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        /// The event breaks the contract; the message names the attribute.
        public static let invalidEvent = Code(rawValue: "invalid-event")
        /// A wrong setting; the message names it.
        public static let configuration = Code(rawValue: "configuration")
        /// The brokers refuse this record.
        public static let refused = Code(rawValue: "refused")
        /// Not acknowledged in time. It may have been written all the same: publish it again with the same id.
        public static let timedOut = Code(rawValue: "timed-out")
        public static let closed = Code(rawValue: "closed")
    }

    public var code: Code
    public var message: String
    public var isRetriable: Bool { code == .timedOut }
    public var description: String { message }
}
