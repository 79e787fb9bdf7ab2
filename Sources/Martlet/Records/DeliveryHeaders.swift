internal import Cryptography

/// The headers of a delivery record, on lane topics and on the dead-letter topic. The value of the record is the exact HTTP body.
public struct DeliveryHeaders: EventAttributes, Sendable, Equatable {
    /// Attempts already made.
    public var attempt = 0
    /// Earliest start, Unix milliseconds.
    public var dueMilliseconds: Int64 = 0
    public var firstMilliseconds: Int64 = 0
    /// What age counts from: acceptance, or the moment of a replay.
    public var ageFromMilliseconds: Int64 = 0
    /// The offset in the registry that the writer of the delivery had read.
    public var registryOffset: Int64 = 0
    public var rewrites = 0
    public var lastStatus: Int?
    public var texts = HeaderTexts()

    public var deliveryID: String {
        get { texts[.deliveryID] ?? "" }
        set { texts[.deliveryID] = newValue }
    }
    public var endpointID: String {
        get { texts[.endpointID] ?? "" }
        set { texts[.endpointID] = newValue }
    }
    /// `topic/partition/offset` of the event.
    public var origin: String {
        get { texts[.origin] ?? "" }
        set { texts[.origin] = newValue }
    }
    public var lastError: String? {
        get { texts[.lastError] }
        set { texts[.lastError] = newValue }
    }
    public var reason: String? {
        get { texts[.reason] }
        set { texts[.reason] = newValue }
    }
    public var replayedFrom: String? {
        get { texts[.replayedFrom] }
        set { texts[.replayedFrom] = newValue }
    }

    // The event's attributes.
    public var eventID: String {
        get { texts[.eventID] ?? "" }
        set { texts[.eventID] = newValue }
    }

    /// Of any number: 2⁵³ − 1, as JSON's.
    static let numberLimit: Int64 = 9_007_199_254_740_991
    /// Of `martlet-last-error` and `martlet-reason`.
    public static let textLimitBytes = 512

    public init() {}

    public struct Malformed: Error, CustomStringConvertible, Equatable {
        public var description: String
        public init(description: String) { self.description = description }
    }

    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void
    ) throws(Malformed) {
        self.init()
        try read(headers)
    }

    /// Those of another record instead, in the memory of these. When it throws, some of them may have been read.
    public mutating func read(
        _ headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void
    ) throws(Malformed) {
        var bad: String?
        removeAll()
        texts.reserve(bytes: 256)
        headers { name, value in
            guard let field = HeaderField.named(name) else { return }
            guard field.isNumber else { return texts.set(field, value) }
            // Far from where adding a delay could overflow.
            guard let number = Self.number(value) else {
                bad = bad ?? "\(field.name) isn't a number from 0 to \(Self.numberLimit)"
                return
            }
            switch field {
            case .attempt: attempt = Int(number)
            case .due: dueMilliseconds = number
            case .first: firstMilliseconds = number
            case .ageFrom: ageFromMilliseconds = number
            case .registryOffset: registryOffset = number
            case .rewrites: rewrites = Int(number)
            case .lastStatus: lastStatus = Int(number)
            default: break
            }
        }
        texts.repair()
        if texts.count(.deliveryID) == 0 { bad = bad ?? "martlet-delivery-id is missing" }
        if texts.count(.endpointID) == 0 { bad = bad ?? "martlet-endpoint-id is missing" }
        if let bad { throw Malformed(description: bad) }
    }

    /// Memory stays for those to come.
    public mutating func removeAll() {
        texts.removeAll()
        (attempt, dueMilliseconds, firstMilliseconds, ageFromMilliseconds) = (0, 0, 0, 0)
        (registryOffset, rewrites, lastStatus) = (0, 0, nil)
    }

    /// The key of its record, without a copy.
    public func withEndpointID<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        if let result = texts.with(.endpointID, body) { return result }
        let nothing: [UInt8] = []
        return body(nothing.span)
    }

    /// The `webhook-id`.
    public var messageID: String { String(decoding: messageIDBytes, as: UTF8.self) }
    /// The same as UTF-8.
    public var messageIDBytes: [UInt8] {
        var out: [UInt8] = []
        appendMessageID(to: &out)
        return out
    }

    /// Appends the `webhook-id` as UTF-8.
    public func appendMessageID(to out: inout [UInt8]) {
        out.reserveCapacity(out.count + 32)
        Identifiers.appendMessage(Identifiers.messageDigest(of: texts), to: &out)
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

    /// As they go on the wire, in a fixed order.
    public var encoded: [(name: String, value: [UInt8])] {
        var headers: [(name: String, value: [UInt8])] = []
        headers.reserveCapacity(23)
        forEach { headers.append(("\($0)", Array($1))) }
        return headers
    }

    /// Calls `write` for each as it goes on the wire, in a fixed order. `martlet-last-error` and `martlet-reason` are cut at their limit.
    public func forEach(_ write: (_ name: StaticString, _ value: UnsafeRawBufferPointer) -> Void) {
        func add(_ field: HeaderField) { texts.with(field) { $0.withUnsafeBytes { write(field.name, $0) } } }
        func add(_ field: HeaderField, _ number: Int64) {
            Decimal.with(Int(number)) { $0.withUnsafeBytes { write(field.name, $0) } }
        }
        func addCapped(_ field: HeaderField) {
            if let text = texts[field] { Array(Self.capped(text).utf8).withUnsafeBytes { write(field.name, $0) } }
        }
        add(.deliveryID)
        add(.endpointID)
        add(.attempt, Int64(attempt))
        add(.due, dueMilliseconds)
        add(.first, firstMilliseconds)
        add(.ageFrom, ageFromMilliseconds)
        add(.origin)
        add(.registryOffset, registryOffset)
        add(.rewrites, Int64(rewrites))
        if let lastStatus { add(.lastStatus, Int64(lastStatus)) }
        addCapped(.lastError)
        addCapped(.reason)
        add(.replayedFrom)
        let version: StaticString = "1.0"
        version.withUTF8Buffer { write("ce_specversion", UnsafeRawBufferPointer($0)) }
        for field in HeaderField.ofEvents { add(field) }
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
