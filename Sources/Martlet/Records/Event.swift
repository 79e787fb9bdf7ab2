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

    /// In lower case, without parameters and blanks.
    private static func media(_ contentType: String) -> [UInt8] {
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

    /// Checks what the contract says of every event, whatever its mode.
    public func validate() throws(Poison) {
        for (name, value) in [("ce_id", id), ("ce_source", source), ("ce_type", type)] where value.isEmpty {
            throw Poison("\(name) is missing or empty")
        }
        let attributes: [(String, String?)] = [
            ("ce_id", id), ("ce_source", source), ("ce_type", type), ("ce_time", time), ("ce_subject", subject),
        ]
        for (name, value) in attributes where (value?.utf8.count ?? 0) > Self.attributeLimitBytes {
            throw Poison("\(name) is longer than \(Self.attributeLimitBytes) bytes")
        }
        guard Identifiers.isName(tenant) else { throw Poison("ce_tenant must be 1 to 64 of A-Z a-z 0-9 _ -") }
        guard let data else { return }
        guard data.count <= Self.dataLimitBytes else {
            throw Poison("data has \(data.count) bytes; at most \(Self.dataLimitBytes) are allowed")
        }
        if let contentType, Self.isJSON(contentType: contentType), !data.withUnsafeBytes({ JSONScanner.isValid($0) }) {
            throw Poison("data isn't valid JSON, though its content type says so")
        }
    }

    /// Decodes a record in binary or structured mode. `headers` calls its argument for each header.
    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void, value: UnsafeRawBufferPointer?
    ) throws(Poison) {
        var found = RecordAttributes()
        headers { found.take($0, $1) }
        if let poison = found.poison { throw poison }
        let media = found["content-type"].map { Self.media($0) } ?? []
        if media.starts(with: "application/cloudevents".utf8) {
            guard media.elementsEqual("application/cloudevents+json".utf8) else {
                let shown = String(decoding: media.prefix(64), as: UTF8.self)
                throw Poison("structured mode '\(shown)' isn't supported; use application/cloudevents+json")
            }
            guard let value else { throw Poison("structured mode without a value") }
            self = try Self.structured(value)
            traceParent = traceParent ?? found["traceparent"]
            traceState = traceState ?? found["tracestate"]
        } else {
            guard found.hasAttributes else {
                throw Poison(value == nil ? "null value without ce_* attributes" : "ce_id, ce_source and ce_type are missing")
            }
            guard let version = found["ce_specversion"] else { throw Poison("ce_specversion is missing; expected 1.0") }
            guard version == "1.0" else { throw Poison("ce_specversion is '\(version.prefix(16))'; expected 1.0") }
            self.init(
                id: found["ce_id"] ?? "", source: found["ce_source"] ?? "", type: found["ce_type"] ?? "",
                tenant: found["ce_tenant"] ?? Self.defaultTenant, contentType: found["content-type"])
            (time, subject) = (found["ce_time"], found["ce_subject"])
            (traceParent, traceState) = (found["traceparent"], found["tracestate"])
            if let value {
                guard value.count <= Self.dataLimitBytes else {
                    throw Poison("data has \(value.count) bytes; at most \(Self.dataLimitBytes) are allowed")
                }
                data = Array(value)
            }
        }
        try validate()
    }

    private static let structuredNames = [
        "specversion", "id", "source", "type", "tenant", "datacontenttype", "time", "subject", "traceparent", "tracestate", "data_base64",
    ]

    /// The JSON event format. The bytes of `data` are kept as they stand: numbers, key order and escapes arrive as sent.
    private static func structured(_ bytes: UnsafeRawBufferPointer) throws(Poison) -> Event {
        var members: [JSONValue.Member] = []
        members.reserveCapacity(structuredNames.count)
        // Of extension attributes only the names count: none may stand twice.
        var others: Set<String> = []
        func member(_ name: String) -> JSONValue? { members.first { $0.name == name }?.value }
        var data: [UInt8]?
        var scanner = JSONScanner(bytes)
        let bad = Poison("structured mode: the value isn't a valid JSON object")
        guard scanner.take(UInt8(ascii: "{")) else { throw bad }
        if !scanner.take(UInt8(ascii: "}")) {
            repeat {
                guard scanner.peek() == UInt8(ascii: "\"") else { throw bad }
                let nameStart = scanner.position
                guard scanner.skipString(),
                    let name = try? JSONValue.parse(.init(rebasing: bytes[nameStart..<scanner.position])).stringValue,
                    scanner.take(UInt8(ascii: ":")), scanner.peek() != nil
                else { throw bad }
                let start = scanner.position
                guard scanner.skipValue() else { throw bad }
                let raw = bytes[start..<scanner.position]
                let isKnown = structuredNames.contains(name)
                let isNew = name == "data" ? data == nil : isKnown ? member(name) == nil : others.insert(name).inserted
                guard isNew else {
                    throw Poison("structured mode: '\(name.prefix(64))' stands twice")
                }
                if name == "data" {
                    data = Array(raw)
                } else if raw.count <= attributeLimitBytes * 6 || name == "data_base64" {
                    if isKnown { members.append(.init(name, (try? JSONValue.parse(.init(rebasing: raw))) ?? .null)) }
                } else {
                    throw Poison("\(name.prefix(64)) is longer than \(attributeLimitBytes) bytes")
                }
            } while scanner.take(UInt8(ascii: ","))
            guard scanner.take(UInt8(ascii: "}")) else { throw bad }
        }
        guard scanner.atEnd() else { throw bad }
        func text(_ name: String) throws(Poison) -> String? {
            guard let value = member(name), !value.isNull else { return nil }
            guard let text = value.stringValue else { throw Poison("structured mode: '\(name)' must be a string, not \(value.kind)") }
            return text
        }
        guard let version = try text("specversion") else { throw Poison("ce_specversion is missing; expected 1.0") }
        guard version == "1.0" else { throw Poison("ce_specversion is '\(version.prefix(16))'; expected 1.0") }
        var event = Event(
            id: try text("id") ?? "", source: try text("source") ?? "", type: try text("type") ?? "",
            tenant: try text("tenant") ?? defaultTenant, contentType: try text("datacontenttype"))
        (event.time, event.subject) = (try text("time"), try text("subject"))
        (event.traceParent, event.traceState) = (try text("traceparent"), try text("tracestate"))
        if let encoded = try text("data_base64") {
            guard data == nil else { throw Poison("structured mode: both data and data_base64") }
            guard let decoded = Base64Text.decode(encoded) else { throw Poison("structured mode: data_base64 isn't base64") }
            event.data = decoded
        } else if let data {
            try event.take(structuredData: data)
        }
        return event
    }

    /// With a JSON content type (the default) `data` is the JSON text itself; else a JSON string holds the text.
    private mutating func take(structuredData raw: [UInt8]) throws(Poison) {
        if contentType == nil { contentType = "application/json" }
        if raw == Array("null".utf8) {
            data = nil
        } else if Self.isJSON(contentType: contentType ?? "") {
            data = raw
        } else if let text = (try? JSONValue.parse(raw))?.stringValue {
            data = Array(text.utf8)
        } else {
            throw Poison("structured mode: data of content type '\((contentType ?? "").prefix(64))' must be a string, or data_base64")
        }
    }
}

/// The headers that the binding knows; all others are ignored, whatever bytes they hold.
private struct RecordAttributes {
    private static let known: Set<String> = [
        "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_tenant", "content-type", "traceparent",
        "tracestate",
    ]
    private var values: [String: String] = [:]
    var hasAttributes = false
    var poison: Event.Poison?

    subscript(name: String) -> String? { values[name] }

    mutating func take(_ nameBytes: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        let name = String(decoding: nameBytes, as: UTF8.self)
        let isAttribute = name.hasPrefix("ce_")
        hasAttributes = hasAttributes || isAttribute
        guard isAttribute || Self.known.contains(name) else { return }
        guard value.count <= Event.attributeLimitBytes else {
            if isAttribute { poison = poison ?? .init("\(name.prefix(64)) is longer than \(Event.attributeLimitBytes) bytes") }
            return
        }
        guard let text = String(validating: value, as: UTF8.self) else {
            if isAttribute { poison = poison ?? .init("\(name.prefix(64)) isn't UTF-8") }
            return
        }
        if Self.known.contains(name) { values[name] = values[name] ?? text }
    }
}
