/// The headers of a delivery record, on lane topics and on the dead-letter topic. The value of the record is the exact HTTP body.
public struct DeliveryHeaders: Sendable, Equatable {
    public var deliveryID = ""
    public var endpointID = ""
    /// Attempts already made.
    public var attempt = 0
    /// Earliest start, Unix milliseconds.
    public var dueMilliseconds: Int64 = 0
    public var firstMilliseconds: Int64 = 0
    /// What age counts from: acceptance, or the moment of a replay.
    public var ageFromMilliseconds: Int64 = 0
    /// `topic/partition/offset` of the event.
    public var origin = ""
    /// The offset in the registry that the writer of the delivery had read.
    public var registryOffset: Int64 = 0
    public var rewrites = 0
    public var lastStatus: Int?
    public var lastError: String?
    public var reason: String?
    public var replayedFrom: String?

    // The event's attributes.
    public var eventID = ""
    public var source = ""
    public var type = ""
    public var tenant = Event.defaultTenant
    public var time: String?
    public var subject: String?
    public var contentType: String?
    public var traceParent: String?
    public var traceState: String?

    /// Of any number: 2⁵³ − 1, as JSON's.
    static let numberLimit: Int64 = 9_007_199_254_740_991
    /// Of `martlet-last-error` and `martlet-reason`.
    public static let textLimitBytes = 512

    public init() {}

    public var messageID: String { Identifiers.message(tenant: tenant, source: source, eventID: eventID) }

    public struct Malformed: Error, CustomStringConvertible, Equatable {
        public var description: String
        public init(description: String) { self.description = description }
    }

    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void
    ) throws(Malformed) {
        var bad: String?
        var copy = DeliveryHeaders()
        headers { nameBytes, value in
            let name = String(decoding: nameBytes, as: UTF8.self)
            let text = String(decoding: value, as: UTF8.self)
            func number() -> Int64 {
                // Far from where adding a delay could overflow.
                if let number = Int64(text), (0...Self.numberLimit).contains(number) { return number }
                bad = bad ?? "\(name) isn't a number from 0 to \(Self.numberLimit)"
                return 0
            }
            switch name {
            case "martlet-delivery-id": copy.deliveryID = text
            case "martlet-endpoint-id": copy.endpointID = text
            case "martlet-attempt": copy.attempt = Int(clamping: number())
            case "martlet-due-ms": copy.dueMilliseconds = number()
            case "martlet-first-ms": copy.firstMilliseconds = number()
            case "martlet-age-from-ms": copy.ageFromMilliseconds = number()
            case "martlet-origin": copy.origin = text
            case "martlet-registry-offset": copy.registryOffset = number()
            case "martlet-rewrites": copy.rewrites = Int(clamping: number())
            case "martlet-last-status": copy.lastStatus = Int(clamping: number())
            case "martlet-last-error": copy.lastError = text
            case "martlet-reason": copy.reason = text
            case "martlet-replayed-from": copy.replayedFrom = text
            case "ce_id": copy.eventID = text
            case "ce_source": copy.source = text
            case "ce_type": copy.type = text
            case "ce_tenant": copy.tenant = text
            case "ce_time": copy.time = text
            case "ce_subject": copy.subject = text
            case "content-type": copy.contentType = text
            case "traceparent": copy.traceParent = text
            case "tracestate": copy.traceState = text
            default: break
            }
        }
        if copy.deliveryID.isEmpty { bad = bad ?? "martlet-delivery-id is missing" }
        if copy.endpointID.isEmpty { bad = bad ?? "martlet-endpoint-id is missing" }
        if let bad { throw Malformed(description: bad) }
        self = copy
    }

    public var encoded: [(name: String, value: [UInt8])] {
        var headers: [(name: String, value: [UInt8])] = []
        func add(_ name: String, _ value: String?) { if let value { headers.append((name, Array(value.utf8))) } }
        add("martlet-delivery-id", deliveryID)
        add("martlet-endpoint-id", endpointID)
        add("martlet-attempt", String(attempt))
        add("martlet-due-ms", String(dueMilliseconds))
        add("martlet-first-ms", String(firstMilliseconds))
        add("martlet-age-from-ms", String(ageFromMilliseconds))
        add("martlet-origin", origin)
        add("martlet-registry-offset", String(registryOffset))
        add("martlet-rewrites", String(rewrites))
        add("martlet-last-status", lastStatus.map { String($0) })
        add("martlet-last-error", lastError.map { Self.capped($0) })
        add("martlet-reason", reason.map { Self.capped($0) })
        add("martlet-replayed-from", replayedFrom)
        add("ce_specversion", "1.0")
        add("ce_id", eventID)
        add("ce_source", source)
        add("ce_type", type)
        add("ce_tenant", tenant)
        add("ce_time", time)
        add("ce_subject", subject)
        add("content-type", contentType)
        add("traceparent", traceParent)
        add("tracestate", traceState)
        return headers
    }

    /// Cut between characters.
    static func capped(_ text: String, bytes limit: Int = textLimitBytes) -> String {
        guard text.utf8.count > limit else { return text }
        var cut = ""
        for character in text {
            guard cut.utf8.count + character.utf8.count <= limit else { break }
            cut.append(character)
        }
        return cut
    }
}

/// Why a delivery ends on the dead-letter topic.
public enum DeadReason: String, Sendable, CaseIterable {
    case exhausted, expired, gone
    case endpointDeleted = "endpoint-deleted"
    /// Can't be sent at all: URL or header policy.
    case refused
    case poison, oversize
    /// Waits for its paused or disabled endpoint; `endpoint enable` replays it.
    case parked
}
