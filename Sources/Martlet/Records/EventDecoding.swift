internal import JSON

/// What the contract says of an event, by its names in both modes. All else is an extension attribute or no affair of ours.
private enum Attribute: Int, CaseIterable {
    case specVersion, id, source, type, tenant, time, subject, contentType, traceParent, traceState
    // In the JSON event format only.
    case data, dataBase64

    /// In the JSON event format.
    var member: StaticString {
        switch self {
        case .specVersion: "specversion"
        case .id: "id"
        case .source: "source"
        case .type: "type"
        case .tenant: "tenant"
        case .time: "time"
        case .subject: "subject"
        case .contentType: "datacontenttype"
        case .traceParent: "traceparent"
        case .traceState: "tracestate"
        case .data: "data"
        case .dataBase64: "data_base64"
        }
    }
    /// Of a record, in binary mode.
    private var header: StaticString? {
        switch self {
        case .specVersion: "ce_specversion"
        case .id: "ce_id"
        case .source: "ce_source"
        case .type: "ce_type"
        case .tenant: "ce_tenant"
        case .time: "ce_time"
        case .subject: "ce_subject"
        case .contentType: "content-type"
        case .traceParent: "traceparent"
        case .traceState: "tracestate"
        case .data, .dataBase64: nil
        }
    }
    static let members = NameTable(allCases.map { ($0.member, $0) })
    static let headers = NameTable(allCases.compactMap { attribute in attribute.header.map { ($0, attribute) } })
}

extension Event {
    /// Decodes a record in binary or structured mode. `headers` calls its argument for each header.
    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void, value: UnsafeRawBufferPointer?
    ) throws(Poison) {
        var found = RecordAttributes()
        headers { found.take($0, $1) }
        if let poison = found.poison { throw poison }
        if let contentType = found[.contentType], try Self.isStructured(contentType) {
            guard let value else { throw Poison("structured mode without a value") }
            let isJSONKnown: Bool
            (self, isJSONKnown) = try Self.structured(value)
            traceParent = traceParent ?? found[.traceParent]
            traceState = traceState ?? found[.traceState]
            try validate(isJSONKnown: isJSONKnown)
            return
        }
        guard found.hasAttributes else {
            throw Poison(value == nil ? "null value without ce_* attributes" : "ce_id, ce_source and ce_type are missing")
        }
        try Self.check(version: found[.specVersion])
        self.init(
            id: found[.id] ?? "", source: found[.source] ?? "", type: found[.type] ?? "", tenant: found[.tenant] ?? Self.defaultTenant,
            contentType: found[.contentType])
        (time, subject) = (found[.time], found[.subject])
        (traceParent, traceState) = (found[.traceParent], found[.traceState])
        if let value {
            guard value.count <= Self.dataLimitBytes else {
                throw Poison("data has \(value.count) bytes; at most \(Self.dataLimitBytes) are allowed")
            }
            data = Array(value)
        }
        try validate()
    }

    private static func isStructured(_ contentType: String) throws(Poison) -> Bool {
        if contentType == "application/cloudevents+json" { return true }
        if contentType == "application/json" { return false }
        let media = media(contentType)
        guard media.starts(with: "application/cloudevents".utf8) else { return false }
        guard media.elementsEqual("application/cloudevents+json".utf8) else {
            let shown = String(decoding: media.prefix(64), as: UTF8.self)
            throw Poison("structured mode '\(shown)' isn't supported; use application/cloudevents+json")
        }
        return true
    }

    private static func check(version: String?) throws(Poison) {
        guard let version else { throw Poison("ce_specversion is missing; expected 1.0") }
        guard version == "1.0" else { throw Poison("ce_specversion is '\(version.prefix(16))'; expected 1.0") }
    }

    /// The JSON event format. The bytes of `data` are kept as they stand: numbers, key order and escapes arrive as sent. They have been found to be JSON
    /// with the whole, which what stands in base64 has not.
    private static func structured(_ bytes: UnsafeRawBufferPointer) throws(Poison) -> (event: Event, isJSONKnown: Bool) {
        let members = try members(bytes)
        func text(_ attribute: Attribute) throws(Poison) -> String? {
            guard let value = members.values[attribute.rawValue], !value.isNull else { return nil }
            guard let text = value.stringValue else {
                throw Poison("structured mode: '\(attribute.member)' must be a string, not \(value.kind)")
            }
            return text
        }
        try check(version: text(.specVersion))
        var event = Event(
            id: try text(.id) ?? "", source: try text(.source) ?? "", type: try text(.type) ?? "",
            tenant: try text(.tenant) ?? defaultTenant, contentType: try text(.contentType))
        (event.time, event.subject) = (try text(.time), try text(.subject))
        (event.traceParent, event.traceState) = (try text(.traceParent), try text(.traceState))
        if let encoded = try text(.dataBase64) {
            guard members.data == nil else { throw Poison("structured mode: both data and data_base64") }
            guard let decoded = Base64Text.decode(encoded) else { throw Poison("structured mode: data_base64 isn't base64") }
            event.data = decoded
            return (event, false)
        }
        if let data = members.data {
            try event.take(structuredData: data)
        }
        return (event, true)
    }

    private struct Members {
        /// By the attributes' numbers, but for `data`.
        var values: [JSONValue?] = Array(repeating: nil, count: Attribute.allCases.count)
        var data: UnsafeRawBufferPointer?
        /// Of extension attributes only the names count: none may stand twice.
        var others: Set<String> = []

        mutating func isNew(_ attribute: Attribute?, _ name: () -> String) -> Bool {
            switch attribute {
            case .data?: data == nil
            case let attribute?: values[attribute.rawValue] == nil
            case nil: others.insert(name()).inserted
            }
        }
    }

    private static func members(_ bytes: UnsafeRawBufferPointer) throws(Poison) -> Members {
        var members = Members()
        var scanner = JSONScanner(bytes)
        let bad = Poison("structured mode: the value isn't a valid JSON object")
        guard scanner.take(UInt8(ascii: "{")) else { throw bad }
        if !scanner.take(UInt8(ascii: "}")) {
            repeat {
                guard scanner.peek() == UInt8(ascii: "\""), let name = scanner.takeString(), scanner.take(UInt8(ascii: ":")),
                    let first = scanner.peek()
                else { throw bad }
                let attribute = name.withUTF8 { Attribute.members[$0] }
                guard members.isNew(attribute, { name.text }) else {
                    throw Poison("structured mode: '\(name.text.prefix(64))' stands twice")
                }
                let start = scanner.position
                let isText = first == UInt8(ascii: "\"") && attribute != nil && attribute != .data
                let value = isText ? scanner.takeString() : nil
                guard isText ? value != nil : scanner.skipValue() else { throw bad }
                let raw = UnsafeRawBufferPointer(rebasing: bytes[start..<scanner.position])
                guard raw.count <= attributeLimitBytes * 6 || attribute == .data || attribute == .dataBase64 else {
                    throw Poison("\(name.text.prefix(64)) is longer than \(attributeLimitBytes) bytes")
                }
                switch attribute {
                case .data?: members.data = raw
                case let attribute?:
                    members.values[attribute.rawValue] = value.map { .string($0.text) } ?? (try? JSONValue.parse(raw)) ?? .null
                case nil: break
                }
            } while scanner.take(UInt8(ascii: ","))
            guard scanner.take(UInt8(ascii: "}")) else { throw bad }
        }
        guard scanner.atEnd() else { throw bad }
        return members
    }

    /// With a JSON content type (the default) `data` is the JSON text itself; else a JSON string holds the text.
    private mutating func take(structuredData raw: UnsafeRawBufferPointer) throws(Poison) {
        if contentType == nil { contentType = "application/json" }
        if raw.elementsEqual("null".utf8) {
            data = nil
        } else if Self.isJSON(contentType: contentType ?? "") {
            data = Array(raw)
        } else if let text = (try? JSONValue.parse(raw))?.stringValue {
            data = Array(text.utf8)
        } else {
            throw Poison("structured mode: data of content type '\((contentType ?? "").prefix(64))' must be a string, or data_base64")
        }
    }
}

/// The headers that the binding knows; all others are ignored, whatever bytes they hold.
private struct RecordAttributes {
    private var values: [String?] = Array(repeating: nil, count: Attribute.allCases.count)
    var hasAttributes = false
    var poison: Event.Poison?

    subscript(attribute: Attribute) -> String? { values[attribute.rawValue] }

    mutating func take(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        let known = Attribute.headers[name]
        let isAttribute = name.starts(with: "ce_".utf8)
        hasAttributes = hasAttributes || isAttribute
        guard isAttribute || known != nil else { return }
        func shown() -> String { String(String(decoding: name, as: UTF8.self).prefix(64)) }
        guard value.count <= Event.attributeLimitBytes else {
            if isAttribute { poison = poison ?? .init("\(shown()) is longer than \(Event.attributeLimitBytes) bytes") }
            return
        }
        guard let text = String(validating: value, as: UTF8.self) else {
            if isAttribute { poison = poison ?? .init("\(shown()) isn't UTF-8") }
            return
        }
        if let known, values[known.rawValue] == nil { values[known.rawValue] = text }
    }
}
