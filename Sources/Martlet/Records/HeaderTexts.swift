internal import Cryptography
internal import JSON

/// The headers of delivery records that count. Those of events are among them.
enum HeaderField: Int, CaseIterable {
    case deliveryID, endpointID, origin, lastError, reason, replayedFrom
    case eventID, source, type, tenant, time, subject, contentType, traceParent, traceState
    // What follows isn't a text.
    case attempt, due, first, ageFrom, registryOffset, rewrites, lastStatus

    static let ofEvents: [Self] = [.eventID, .source, .type, .tenant, .time, .subject, .contentType, .traceParent, .traceState]

    /// What a record without such a header has.
    var absent: [UInt8]? {
        switch self {
        case .deliveryID, .endpointID, .origin, .eventID, .source, .type: []
        case .tenant: Self.defaultTenant
        default: nil
        }
    }
    private static let defaultTenant = Array(Event.defaultTenant.utf8)

    var isNumber: Bool { rawValue >= Self.attempt.rawValue }

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

    static func named(_ name: UnsafeRawBufferPointer) -> Self? { names[name] }
}

/// The texts of a record's headers, UTF-8, one after another in one array: an event's go into its deliveries, and a delivery reads few of
/// its own, without a string for each.
public struct HeaderTexts: Sendable, Equatable {
    /// What was set anew leaves its old bytes behind.
    private var bytes: [UInt8] = []
    private var places = InlineArray<15, Place>(repeating: Place())

    private struct Place {
        var start: Int32 = 0
        /// -1: there is no such header.
        var count: Int32 = -1
        var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
    }

    /// Room for so many bytes in all.
    mutating func reserve(bytes count: Int) { bytes.reserveCapacity(count) }

    /// In bytes, whether they are in use or not.
    var reservedBytes: Int { bytes.capacity }

    /// Memory stays for those to come, unless it is unusually much.
    mutating func removeAll() {
        bytes.removeAll(keepingCapacity: bytes.capacity <= 2_048)
        places = InlineArray(repeating: Place())
    }

    /// nil: there is no such header, and nothing that stands for it.
    @inline(__always) @discardableResult
    func with<Result>(_ field: HeaderField, _ body: (Span<UInt8>) -> Result) -> Result? {
        let place = places[field.rawValue]
        if place.count >= 0 { return body(bytes.span.extracting(place.range)) }
        guard let absent = field.absent else { return nil }
        return body(absent.span)
    }

    subscript(field: HeaderField) -> String? {
        get { with(field) { $0.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } } }
        set {
            guard let newValue else { return places[field.rawValue].count = -1 }
            set(field) { $0.append(contentsOf: newValue.utf8) }
        }
    }

    func has(_ field: HeaderField) -> Bool { places[field.rawValue].count >= 0 }

    /// In bytes; 0 without such a header.
    func count(_ field: HeaderField) -> Int { max(0, Int(places[field.rawValue].count)) }

    func equals(_ field: HeaderField, _ literal: StaticString) -> Bool {
        with(field) { $0.isEqual(to: literal) } == true
    }

    /// What `write` appends, and nothing else of what it is given, becomes the text: UTF-8, or `repair` follows.
    @inline(__always)
    mutating func set(_ field: HeaderField, _ write: (inout [UInt8]) -> Void) {
        let start = bytes.count
        write(&bytes)
        places[field.rawValue] = Place(start: Int32(start), count: Int32(bytes.count - start))
    }

    mutating func set(_ field: HeaderField, _ text: UnsafeRawBufferPointer) { set(field) { $0.append(contentsOf: text) } }

    /// What isn't UTF-8 is repaired: each text for itself, as the end of one and the beginning of the next may look like a character.
    mutating func repair() {
        var all: UInt8 = 0
        for byte in bytes { all |= byte }
        guard all >= 0x80 else { return }
        for field in HeaderField.allCases where !field.isNumber && has(field) {
            guard let text = self[field] else { continue }
            if with(field, { $0.withUnsafeBufferPointer { text.utf8.elementsEqual($0) } }) == false { self[field] = text }
        }
    }

    /// Appends a text; false when there is no such header.
    @discardableResult
    func append(_ field: HeaderField, to out: inout [UInt8]) -> Bool { with(field) { out.append($0) } != nil }

    /// Appends a text as the inside of a JSON string; nothing when there is no such header.
    func appendJSON(_ field: HeaderField, to out: inout [UInt8]) { _ = with(field) { appendJSONText($0, to: &out) } }

    public static func == (left: Self, right: Self) -> Bool { HeaderField.allCases.allSatisfy { $0.isNumber || left[$0] == right[$0] } }
}

/// What an event and its deliveries have in common.
public protocol EventAttributes { var texts: HeaderTexts { get set } }

extension EventAttributes {
    public var source: String {
        get { texts[.source] ?? "" }
        set { texts[.source] = newValue }
    }
    public var type: String {
        get { texts[.type] ?? "" }
        set { texts[.type] = newValue }
    }
    public var tenant: String {
        get { texts[.tenant] ?? "" }
        set { texts[.tenant] = newValue }
    }
    /// As sent, not interpreted.
    public var time: String? {
        get { texts[.time] }
        set { texts[.time] = newValue }
    }
    public var subject: String? {
        get { texts[.subject] }
        set { texts[.subject] = newValue }
    }
    public var contentType: String? {
        get { texts[.contentType] }
        set { texts[.contentType] = newValue }
    }
    public var traceParent: String? {
        get { texts[.traceParent] }
        set { texts[.traceParent] = newValue }
    }
    public var traceState: String? {
        get { texts[.traceState] }
        set { texts[.traceState] = newValue }
    }
}

extension Span<UInt8> {
    func isEqual(to literal: StaticString) -> Bool {
        guard count == literal.utf8CodeUnitCount else { return false }
        for index in indices where self[index] != literal.utf8Start[index] { return false }
        return true
    }
}
