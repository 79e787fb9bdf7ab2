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
        self.init()
        headers { nameBytes, value in
            guard let field = Field.named(nameBytes) else { return }
            func text() -> String { String(decoding: value, as: UTF8.self) }
            func number() -> Int64 {
                // Far from where adding a delay could overflow.
                if let number = Self.number(value) { return number }
                bad = bad ?? "\(field.rawValue) isn't a number from 0 to \(Self.numberLimit)"
                return 0
            }
            switch field {
            case .deliveryID: self.deliveryID = text()
            case .endpointID: self.endpointID = text()
            case .attempt: self.attempt = Int(clamping: number())
            case .due: self.dueMilliseconds = number()
            case .first: self.firstMilliseconds = number()
            case .ageFrom: self.ageFromMilliseconds = number()
            case .origin: self.origin = text()
            case .registryOffset: self.registryOffset = number()
            case .rewrites: self.rewrites = Int(clamping: number())
            case .lastStatus: self.lastStatus = Int(clamping: number())
            case .lastError: self.lastError = text()
            case .reason: self.reason = text()
            case .replayedFrom: self.replayedFrom = text()
            case .eventID: self.eventID = text()
            case .source: self.source = text()
            case .type: self.type = text()
            case .tenant: self.tenant = text()
            case .time: self.time = text()
            case .subject: self.subject = text()
            case .contentType: self.contentType = text()
            case .traceParent: self.traceParent = text()
            case .traceState: self.traceState = text()
            }
        }
        if self.deliveryID.isEmpty { bad = bad ?? "martlet-delivery-id is missing" }
        if self.endpointID.isEmpty { bad = bad ?? "martlet-endpoint-id is missing" }
        if let bad { throw Malformed(description: bad) }
    }

    /// The headers that count, by their names on the wire.
    private enum Field: String, CaseIterable {
        case deliveryID = "martlet-delivery-id"
        case endpointID = "martlet-endpoint-id"
        case attempt = "martlet-attempt"
        case due = "martlet-due-ms"
        case first = "martlet-first-ms"
        case ageFrom = "martlet-age-from-ms"
        case origin = "martlet-origin"
        case registryOffset = "martlet-registry-offset"
        case rewrites = "martlet-rewrites"
        case lastStatus = "martlet-last-status"
        case lastError = "martlet-last-error"
        case reason = "martlet-reason"
        case replayedFrom = "martlet-replayed-from"
        case eventID = "ce_id"
        case source = "ce_source"
        case type = "ce_type"
        case tenant = "ce_tenant"
        case time = "ce_time"
        case subject = "ce_subject"
        case contentType = "content-type"
        case traceParent = "traceparent"
        case traceState = "tracestate"

        /// By the length of their names: few share one.
        private static let byLength: [[(name: [UInt8], field: Field)]] = {
            var lists: [[(name: [UInt8], field: Field)]] = Array(repeating: [], count: 24)
            for field in allCases { lists[field.rawValue.utf8.count].append((Array(field.rawValue.utf8), field)) }
            return lists
        }()

        static func named(_ name: UnsafeRawBufferPointer) -> Field? {
            guard name.count < byLength.count else { return nil }
            for known in byLength[name.count] where known.name.elementsEqual(name) { return known.field }
            return nil
        }
    }

    /// Digits only, up to `numberLimit`.
    private static func number(_ text: UnsafeRawBufferPointer) -> Int64? {
        guard (1...18).contains(text.count) else { return nil }
        var number: Int64 = 0
        for byte in text {
            guard byte &- 48 < 10 else { return nil }
            number = number * 10 + Int64(byte - 48)
        }
        return number <= numberLimit ? number : nil
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
