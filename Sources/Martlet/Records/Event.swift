internal import JSON

/// A CloudEvents 1.0 event as published: attributes and data. `data` nil is an event without data.
public struct Event: EventAttributes, Sendable, Equatable {
    public var texts = HeaderTexts()
    public var data: [UInt8]?

    public var id: String {
        get { texts[.eventID] ?? "" }
        set { texts[.eventID] = newValue }
    }

    public static let defaultTenant = "default"
    /// Larger data is poison.
    public static let dataLimitBytes = 1_000_000
    /// Of any `ce_*` attribute.
    public static let attributeLimitBytes = 1_024

    public init(
        id: String, source: String, type: String, tenant: String = Event.defaultTenant, contentType: String? = nil, data: [UInt8]? = nil
    ) {
        self.init(HeaderTexts(), data: data)
        (self.id, self.source, self.type, self.tenant, self.contentType) = (id, source, type, tenant, contentType)
    }

    init(_ texts: HeaderTexts, data: [UInt8]?) { (self.texts, self.data) = (texts, data) }

    public var messageID: String { Identifiers.message(tenant: tenant, source: source, eventID: id) }

    /// Why a record isn't an event; ends on the dead-letter topic with it.
    public struct Poison: Error, Sendable, Equatable, CustomStringConvertible {
        public var description: String
        public init(_ description: String) { self.description = description }
    }

    /// Whether its content type says that the data is JSON; nil without a content type.
    static func isCalledJSON(_ texts: HeaderTexts) -> Bool? {
        texts.with(.contentType) { type in
            // Nearly always, and for every event more than once.
            if type.isEqual(to: "application/json") { return true }
            let media = media(type)
            return media.elementsEqual("application/json".utf8) || media.elementsEqual("text/json".utf8)
                || media.suffix(5).elementsEqual("+json".utf8)
        }
    }

    /// A content type in lower case, without parameters and blanks.
    static func media(_ contentType: Span<UInt8>) -> [UInt8] {
        var media: [UInt8] = []
        media.reserveCapacity(32)
        for index in contentType.indices {
            let byte = contentType[index]
            if byte == UInt8(ascii: ";") { break }
            if byte != 0x20, byte != 0x09 { media.append(byte &- 65 < 26 ? byte | 0x20 : byte) }
        }
        return media
    }
}

// MARK: the Kafka binding

extension Event {
    /// Headers of the binary mode; the value of the record is `data`.
    public var binaryHeaders: [(name: String, value: [UInt8])] {
        var headers: [(name: String, value: [UInt8])] = []
        func add(_ name: String, _ value: String?) { if let value { headers.append((name, Array(value.utf8))) } }
        add("ce_specversion", "1.0")
        add("ce_id", id)
        add("ce_source", source)
        add("ce_type", type)
        add("ce_time", time)
        add("ce_subject", subject)
        add("ce_tenant", tenant == Self.defaultTenant ? nil : tenant)
        add("content-type", contentType)
        add("traceparent", traceParent)
        add("tracestate", traceState)
        return headers
    }

    /// Checks what the contract says of every event, whatever its mode.
    public func validate() throws(Poison) {
        try Self.validate(texts, dataBytes: data?.count) { data?.withUnsafeBytes { JSONScanner.isValid($0) } ?? true }
    }

    /// `isJSON` is asked for data that is called so.
    static func validate(_ texts: HeaderTexts, dataBytes: Int?, isJSON: () -> Bool) throws(Poison) {
        func check(_ field: HeaderField, mustBe: Bool = false) throws(Poison) {
            let count = texts.count(field)
            guard count > 0 || !mustBe else { throw Poison("\(field.name) is missing or empty") }
            guard count <= attributeLimitBytes else { throw Poison("\(field.name) is longer than \(attributeLimitBytes) bytes") }
        }
        try check(.eventID, mustBe: true)
        try check(.source, mustBe: true)
        try check(.type, mustBe: true)
        try check(.time)
        try check(.subject)
        guard texts.with(.tenant, Identifiers.isName) == true else { throw Poison("ce_tenant must be 1 to 64 of A-Z a-z 0-9 _ -") }
        guard let dataBytes else { return }
        guard dataBytes <= dataLimitBytes else { throw Poison("data has \(dataBytes) bytes; at most \(dataLimitBytes) are allowed") }
        if isCalledJSON(texts) == true, !isJSON() { throw Poison("data isn't valid JSON, though its content type says so") }
    }
}
