internal import JSON

/// A CloudEvents 1.0 event as published: attributes and data. `data` nil is an event without data.
public struct Event: Sendable, Equatable {
    public var id: String
    public var source: String
    public var type: String
    public var tenant: String
    /// As sent, not interpreted.
    public var time: String?
    public var subject: String?
    public var contentType: String?
    public var traceParent: String?
    public var traceState: String?
    public var data: [UInt8]?

    public static let defaultTenant = "default"
    /// Larger data is poison.
    public static let dataLimitBytes = 1_000_000
    /// Of any `ce_*` attribute.
    public static let attributeLimitBytes = 1_024

    public init(
        id: String, source: String, type: String, tenant: String = Event.defaultTenant, contentType: String? = nil, data: [UInt8]? = nil
    ) {
        (self.id, self.source, self.type, self.tenant) = (id, source, type, tenant)
        (self.contentType, self.data) = (contentType, data)
    }

    public var messageID: String { Identifiers.message(tenant: tenant, source: source, eventID: id) }

    /// Why a record isn't an event; ends on the dead-letter topic with it.
    public struct Poison: Error, Sendable, Equatable, CustomStringConvertible {
        public var description: String
        public init(_ description: String) { self.description = description }
    }

    public static func isJSON(contentType: String) -> Bool {
        // Nearly always, and for every event more than once.
        if contentType == "application/json" { return true }
        let media = media(contentType)
        return media == jsonMedia || media == Array("text/json".utf8) || media.suffix(5).elementsEqual("+json".utf8)
    }

    private static let jsonMedia = Array("application/json".utf8)

    /// A content type in lower case, without parameters and blanks.
    static func media(_ contentType: String) -> [UInt8] {
        var media: [UInt8] = []
        media.reserveCapacity(32)
        for byte in contentType.utf8 {
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

    /// Checks what the contract says of every event, whatever its mode. `isJSONKnown`: data that is called JSON has been found to be it.
    public func validate(isJSONKnown: Bool = false) throws(Poison) {
        func check(_ name: StaticString, _ value: String?, mustBe: Bool = false) throws(Poison) {
            let count = value?.utf8.count ?? 0
            guard count > 0 || !mustBe else { throw Poison("\(name) is missing or empty") }
            guard count <= Self.attributeLimitBytes else { throw Poison("\(name) is longer than \(Self.attributeLimitBytes) bytes") }
        }
        try check("ce_id", id, mustBe: true)
        try check("ce_source", source, mustBe: true)
        try check("ce_type", type, mustBe: true)
        try check("ce_time", time)
        try check("ce_subject", subject)
        guard Identifiers.isName(tenant) else { throw Poison("ce_tenant must be 1 to 64 of A-Z a-z 0-9 _ -") }
        guard let data else { return }
        guard data.count <= Self.dataLimitBytes else {
            throw Poison("data has \(data.count) bytes; at most \(Self.dataLimitBytes) are allowed")
        }
        if !isJSONKnown, let contentType, Self.isJSON(contentType: contentType), !data.withUnsafeBytes({ JSONScanner.isValid($0) }) {
            throw Poison("data isn't valid JSON, though its content type says so")
        }
    }
}
