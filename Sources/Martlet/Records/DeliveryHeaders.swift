internal import Cryptography
internal import JSON

/// The headers of a delivery record, on lane topics and on the dead-letter topic. The value of the record is the exact HTTP body.
///
/// The texts lie one after another in one array, as they came; a delivery reads few of them, and those as bytes.
public struct DeliveryHeaders: Sendable, Equatable {
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

    public var deliveryID: String {
        get { text(.deliveryID) ?? "" }
        set { set(.deliveryID, newValue) }
    }
    public var endpointID: String {
        get { text(.endpointID) ?? "" }
        set { set(.endpointID, newValue) }
    }
    /// `topic/partition/offset` of the event.
    public var origin: String {
        get { text(.origin) ?? "" }
        set { set(.origin, newValue) }
    }
    public var lastError: String? {
        get { text(.lastError) }
        set { set(.lastError, newValue) }
    }
    public var reason: String? {
        get { text(.reason) }
        set { set(.reason, newValue) }
    }
    public var replayedFrom: String? {
        get { text(.replayedFrom) }
        set { set(.replayedFrom, newValue) }
    }

    // The event's attributes.
    public var eventID: String {
        get { text(.eventID) ?? "" }
        set { set(.eventID, newValue) }
    }
    public var source: String {
        get { text(.source) ?? "" }
        set { set(.source, newValue) }
    }
    public var type: String {
        get { text(.type) ?? "" }
        set { set(.type, newValue) }
    }
    public var tenant: String {
        get { text(.tenant) ?? "" }
        set { set(.tenant, newValue) }
    }
    public var time: String? {
        get { text(.time) }
        set { set(.time, newValue) }
    }
    public var subject: String? {
        get { text(.subject) }
        set { set(.subject, newValue) }
    }
    public var contentType: String? {
        get { text(.contentType) }
        set { set(.contentType, newValue) }
    }
    public var traceParent: String? {
        get { text(.traceParent) }
        set { set(.traceParent, newValue) }
    }
    public var traceState: String? {
        get { text(.traceState) }
        set { set(.traceState, newValue) }
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
        var bad: String?
        self.init()
        reserve(bytes: 384)
        headers { name, value in
            guard let field = Field.named(name) else { return }
            guard field.isNumber else { return append(field, value) }
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
        repairTexts()
        if isEmpty(.deliveryID) { bad = bad ?? "martlet-delivery-id is missing" }
        if isEmpty(.endpointID) { bad = bad ?? "martlet-endpoint-id is missing" }
        if let bad { throw Malformed(description: bad) }
    }

    // MARK: texts

    /// Always valid UTF-8. What was set anew leaves its old bytes behind.
    private var texts: [UInt8] = []
    /// For texts that will be set.
    mutating func reserve(bytes count: Int) { texts.reserveCapacity(count) }
    /// One for each field that isn't a number.
    private var places = InlineArray<15, Place>(repeating: Place())

    private struct Place {
        var start: Int32 = 0
        /// -1: there is no such header.
        var count: Int32 = -1
        var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
    }

    /// nil: there is no such header, and nothing that stands for it.
    @inline(__always)
    private func with<Result>(_ field: Field, _ body: (Span<UInt8>) -> Result) -> Result? {
        let place = places[field.rawValue]
        if place.count >= 0 { return body(texts.span.extracting(place.range)) }
        guard let absent = field.absent else { return nil }
        return body(absent.span)
    }

    /// The `webhook-id`.
    public var messageID: String { String(decoding: messageIDBytes, as: UTF8.self) }
    /// The same as UTF-8.
    public var messageIDBytes: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(128)
        Identifiers.appendMessage(of: self, to: &out)
        return out
    }

    private func text(_ field: Field) -> String? { with(field) { $0.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } } }

    private func bytes(_ field: Field) -> [UInt8]? { with(field) { $0.withUnsafeBufferPointer(Array.init) } }

    func has(_ field: Field) -> Bool { places[field.rawValue].count >= 0 }

    private func isEmpty(_ field: Field) -> Bool { places[field.rawValue].count <= 0 }

    private mutating func set(_ field: Field, _ text: String?) {
        places[field.rawValue] = Place(start: Int32(texts.count), count: text.map { Int32($0.utf8.count) } ?? -1)
        if let text { texts.append(contentsOf: text.utf8) }
    }

    /// As it came: `repairTexts` follows.
    private mutating func append(_ field: Field, _ bytes: UnsafeRawBufferPointer) {
        places[field.rawValue] = Place(start: Int32(texts.count), count: Int32(bytes.count))
        texts.append(contentsOf: bytes)
    }

    /// What isn't UTF-8 is repaired: each text for itself, as the end of one and the beginning of the next may look like a character.
    private mutating func repairTexts() {
        var all: UInt8 = 0
        for byte in texts { all |= byte }
        guard all >= 0x80 else { return }
        for field in Field.allCases where !field.isNumber && has(field) {
            guard let text = text(field) else { continue }
            if with(field, { $0.withUnsafeBufferPointer { text.utf8.elementsEqual($0) } }) == false { set(field, text) }
        }
    }

    /// Appends the UTF-8 of a text; false when there is no such header.
    @discardableResult
    func append(_ field: Field, to out: inout [UInt8]) -> Bool { with(field) { out.append($0) } != nil }

    /// Appends a text as the inside of a JSON string; nothing when there is no such header.
    func appendJSON(_ field: Field, to out: inout [UInt8]) { _ = with(field) { appendJSONText($0, to: &out) } }

    public static func == (left: Self, right: Self) -> Bool {
        left.attempt == right.attempt && left.dueMilliseconds == right.dueMilliseconds && left.firstMilliseconds == right.firstMilliseconds
            && left.ageFromMilliseconds == right.ageFromMilliseconds && left.registryOffset == right.registryOffset
            && left.rewrites == right.rewrites && left.lastStatus == right.lastStatus
            && Field.allCases.allSatisfy { $0.isNumber || left.bytes($0) == right.bytes($0) }
    }

    /// The headers that count.
    enum Field: Int, CaseIterable {
        case deliveryID, endpointID, origin, lastError, reason, replayedFrom
        case eventID, source, type, tenant, time, subject, contentType, traceParent, traceState
        // What follows isn't a text.
        case attempt, due, first, ageFrom, registryOffset, rewrites, lastStatus

        /// What a delivery without such a header has.
        var absent: [UInt8]? {
            switch self {
            case .deliveryID, .endpointID, .origin, .eventID, .source, .type: []
            case .tenant: Self.defaultTenant
            default: nil
            }
        }
        private static let defaultTenant = Array(Event.defaultTenant.utf8)

        var isNumber: Bool { rawValue >= Field.attempt.rawValue }

        /// On the wire.
        var name: StaticString {
            switch self {
            case .deliveryID: "martlet-delivery-id"
            case .endpointID: "martlet-endpoint-id"
            case .attempt: "martlet-attempt"
            case .due: "martlet-due-ms"
            case .first: "martlet-first-ms"
            case .ageFrom: "martlet-age-from-ms"
            case .origin: "martlet-origin"
            case .registryOffset: "martlet-registry-offset"
            case .rewrites: "martlet-rewrites"
            case .lastStatus: "martlet-last-status"
            case .lastError: "martlet-last-error"
            case .reason: "martlet-reason"
            case .replayedFrom: "martlet-replayed-from"
            case .eventID: "ce_id"
            case .source: "ce_source"
            case .type: "ce_type"
            case .tenant: "ce_tenant"
            case .time: "ce_time"
            case .subject: "ce_subject"
            case .contentType: "content-type"
            case .traceParent: "traceparent"
            case .traceState: "tracestate"
            }
        }

        private static let names = NameTable(allCases.map { ($0.name, $0) })

        static func named(_ name: UnsafeRawBufferPointer) -> Field? { names[name] }
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
        var digits: [UInt8] = []
        digits.reserveCapacity(20)
        func add(_ field: Field) { _ = with(field) { $0.withUnsafeBytes { write(field.name, $0) } } }
        func add(_ field: Field, _ number: Int64) {
            digits.removeAll(keepingCapacity: true)
            Decimal.append(Int(number), to: &digits)
            digits.withUnsafeBytes { write(field.name, $0) }
        }
        func addCapped(_ field: Field) {
            if let text = text(field) { Array(Self.capped(text).utf8).withUnsafeBytes { write(field.name, $0) } }
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
        for number in Field.eventID.rawValue...Field.traceState.rawValue { if let field = Field(rawValue: number) { add(field) } }
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
