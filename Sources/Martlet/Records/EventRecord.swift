internal import Cryptography
internal import JSON

/// What the contract says of an event, by its names in both modes. All else is an extension attribute or no affair of ours.
private enum Attribute {
    case specVersion
    case text(HeaderField)
    // In the JSON event format only.
    case data, dataBase64

    /// Of a record, in binary mode.
    static let headers = NameTable<Self>([("ce_specversion", .specVersion)] + HeaderField.ofEvents.map { ($0.name, .text($0)) })

    /// In the JSON event format.
    static let members = NameTable<Self>([
        ("specversion", .specVersion), ("id", .text(.eventID)), ("source", .text(.source)), ("type", .text(.type)),
        ("tenant", .text(.tenant)), ("time", .text(.time)), ("subject", .text(.subject)), ("datacontenttype", .text(.contentType)),
        ("traceparent", .text(.traceParent)), ("tracestate", .text(.traceState)), ("data", .data), ("data_base64", .dataBase64),
    ])

    /// Not one of the attributes that describe it.
    var isData: Bool { bit & (Self.data.bit | Self.dataBase64.bit) != 0 }

    /// For sets of them.
    var bit: UInt32 {
        switch self {
        case .text(let field): 1 << UInt32(field.rawValue)
        case .specVersion: 1 << 29
        case .data: 1 << 30
        case .dataBase64: 1 << 31
        }
    }
}

/// What `ce_specversion` says.
private enum Version {
    case missing, supported
    case other(String)

    init(_ text: UnsafeRawBufferPointer) {
        self = text.elementsEqual("1.0".utf8) ? .supported : .other(String(String(decoding: text, as: UTF8.self).prefix(16)))
    }

    func check() throws(Event.Poison) {
        switch self {
        case .missing: throw Event.Poison("ce_specversion is missing; expected 1.0")
        case .supported: return
        case .other(let text): throw Event.Poison("ce_specversion is '\(text)'; expected 1.0")
        }
    }
}

/// An event as it lies in a record, in binary or structured mode: its attributes, and its data without a copy. Valid as long as the record's
/// bytes.
public struct EventRecord: ~Copyable {
    var texts = HeaderTexts()
    private var data = Data.none

    private enum Data {
        case none
        /// As it stands in the record.
        case lies(UnsafeRawBufferPointer)
        case decoded([UInt8])
    }

    /// `headers` calls its argument for each header.
    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void, value: UnsafeRawBufferPointer?
    ) throws(Event.Poison) {
        var found = RecordAttributes()
        headers { found.take($0, $1) }
        if let poison = found.poison { throw poison }
        var isJSONKnown = false
        if try found.isStructured() {
            guard let value else { throw Event.Poison("structured mode without a value") }
            isJSONKnown = try readStructured(value)
            for field in [HeaderField.traceParent, .traceState] where found.texts.has(field) && !texts.has(field) {
                texts[field] = found.texts[field]
            }
        } else {
            guard found.hasAttributes else {
                throw Event.Poison(value == nil ? "null value without ce_* attributes" : "ce_id, ce_source and ce_type are missing")
            }
            try found.version.check()
            texts = found.texts
            data = value.map { .lies($0) } ?? .none
        }
        try Event.validate(texts, dataBytes: withData { $0?.count }) {
            isJSONKnown || withData { $0.map { JSONScanner.isValid($0) } ?? true }
        }
    }

    public var tenant: String { texts[.tenant] ?? "" }
    public var type: String { texts[.type] ?? "" }

    /// nil: an event without data.
    func withData<Result>(_ body: (UnsafeRawBufferPointer?) -> Result) -> Result {
        switch data {
        case .none: body(nil)
        case .lies(let bytes): body(bytes)
        case .decoded(let bytes): bytes.withUnsafeBytes { body($0) }
        }
    }

    /// The JSON event format. The bytes of `data` are kept as they stand: numbers, key order and escapes arrive as sent. True: they have been
    /// found to be JSON with the whole, which what stands in base64 has not.
    private mutating func readStructured(_ bytes: UnsafeRawBufferPointer) throws(Event.Poison) -> Bool {
        // With what its deliveries will add.
        texts.reserve(bytes: 384)
        var (version, data, base64): (Version, UnsafeRawBufferPointer?, JSONText?) = (.missing, nil, nil)
        // The first that should have been a string.
        var wrong: Event.Poison?
        try Self.forEachMember(bytes) { name, attribute, value, text throws(Event.Poison) in
            if case .data = attribute { return data = value }
            guard let text else {
                if !value.elementsEqual("null".utf8) {
                    let kind = (try? JSONValue.parse(value))?.kind ?? "another value"
                    wrong = wrong ?? Event.Poison("structured mode: '\(name.text)' must be a string, not \(kind)")
                }
                return
            }
            switch attribute {
            case .specVersion: version = text.withUTF8(Version.init)
            case .text(let field): text.withUTF8 { texts.set(field, $0) }
            case .dataBase64: base64 = text
            case .data: break
            }
        }
        if let wrong { throw wrong }
        try version.check()
        if let base64 {
            guard data == nil else { throw Event.Poison("structured mode: both data and data_base64") }
            guard let decoded = Base64Text.decode(base64.text) else { throw Event.Poison("structured mode: data_base64 isn't base64") }
            self.data = .decoded(decoded)
            return false
        }
        if let data { try take(structuredData: data) }
        return true
    }

    /// Calls `body` with each attribute's name, its value, and that as a text where it is one. The value of extension attributes doesn't
    /// count, but no name may stand twice.
    private static func forEachMember(
        _ bytes: UnsafeRawBufferPointer,
        _ body: (_ name: JSONText, Attribute, _ value: UnsafeRawBufferPointer, _ text: JSONText?) throws(Event.Poison) -> Void
    ) throws(Event.Poison) {
        let bad = Event.Poison("structured mode: the value isn't a valid JSON object")
        var scanner = JSONScanner(bytes)
        var known: UInt32 = 0
        var others: Set<String> = []
        guard scanner.take(UInt8(ascii: "{")) else { throw bad }
        if !scanner.take(UInt8(ascii: "}")) {
            repeat {
                guard scanner.peek() == UInt8(ascii: "\""), let name = scanner.takeString(), scanner.take(UInt8(ascii: ":")),
                    let first = scanner.peek()
                else { throw bad }
                let attribute = name.withUTF8 { Attribute.members[$0] }
                let isNew = attribute.map { known & $0.bit == 0 } ?? others.insert(name.text).inserted
                guard isNew else { throw Event.Poison("structured mode: '\(name.text.prefix(64))' stands twice") }
                let start = scanner.position
                let isText = first == UInt8(ascii: "\"")
                let text = isText ? scanner.takeString() : nil
                guard isText ? text != nil : scanner.skipValue() else { throw bad }
                let value = UnsafeRawBufferPointer(rebasing: bytes[start..<scanner.position])
                guard value.count <= Event.attributeLimitBytes * 6 || attribute?.isData == true else {
                    throw Event.Poison("\(name.text.prefix(64)) is longer than \(Event.attributeLimitBytes) bytes")
                }
                guard let attribute else { continue }
                known |= attribute.bit
                try body(name, attribute, value, text)
            } while scanner.take(UInt8(ascii: ","))
            guard scanner.take(UInt8(ascii: "}")) else { throw bad }
        }
        guard scanner.atEnd() else { throw bad }
    }

    /// With a JSON content type (the default) `data` is the JSON text itself; else a JSON string holds the text.
    private mutating func take(structuredData raw: UnsafeRawBufferPointer) throws(Event.Poison) {
        if !texts.has(.contentType) { texts.set(.contentType) { $0.append("application/json") } }
        if raw.elementsEqual("null".utf8) { return }
        if Event.isCalledJSON(texts) == true {
            data = .lies(raw)
        } else if let text = (try? JSONValue.parse(raw))?.stringValue {
            data = .decoded(Array(text.utf8))
        } else {
            let type = (texts[.contentType] ?? "").prefix(64)
            throw Event.Poison("structured mode: data of content type '\(type)' must be a string, or data_base64")
        }
    }
}

extension Event {
    /// Decodes a record in binary or structured mode. `headers` calls its argument for each header.
    public init(
        headers: ((_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Void, value: UnsafeRawBufferPointer?
    ) throws(Poison) {
        let record = try EventRecord(headers: headers, value: value)
        self.init(record.texts, data: record.withData { $0.map { Array($0) } })
    }
}

/// The headers that the binding knows; all others are ignored, whatever bytes they hold.
private struct RecordAttributes {
    var texts = HeaderTexts()
    var version = Version.missing
    var hasAttributes = false
    var poison: Event.Poison?

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
        guard value.isUTF8 else {
            if isAttribute { poison = poison ?? .init("\(shown()) isn't UTF-8") }
            return
        }
        switch known {
        case .text(let field)? where !texts.has(field): texts.set(field, value)
        case .specVersion?: if case .missing = version { version = Version(value) }
        default: break
        }
    }

    func isStructured() throws(Event.Poison) -> Bool {
        guard texts.has(.contentType), !texts.equals(.contentType, "application/json") else { return false }
        if texts.equals(.contentType, "application/cloudevents+json") { return true }
        let media = texts.with(.contentType, Event.media) ?? []
        guard media.starts(with: "application/cloudevents".utf8) else { return false }
        guard media.elementsEqual("application/cloudevents+json".utf8) else {
            let shown = String(decoding: media.prefix(64), as: UTF8.self)
            throw Event.Poison("structured mode '\(shown)' isn't supported; use application/cloudevents+json")
        }
        return true
    }
}

extension UnsafeRawBufferPointer {
    fileprivate var isUTF8: Bool {
        var all: UInt8 = 0
        for byte in self { all |= byte }
        return all < 0x80 || String(validating: self, as: UTF8.self) != nil
    }
}
