/// A JSON document as a tree. Objects keep the order of their members and numbers keep their text, so that what we don't understand
/// survives being read and written again.
public indirect enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSONValue])
    case object([Member])

    public struct Member: Sendable, Equatable {
        public var name: String
        public var value: JSONValue
        public init(_ name: String, _ value: JSONValue) { (self.name, self.value) = (name, value) }

        /// Most names differ in length already, and texts that differ are compared slowly.
        @inlinable public func isNamed(_ name: String) -> Bool { self.name.utf8.count == name.utf8.count && self.name == name }
    }

    public static func integer(_ value: some BinaryInteger) -> JSONValue { .number(String(value)) }

    /// Where parsing stopped, in bytes from the start.
    public struct ParseError: Error, CustomStringConvertible, Equatable {
        public var offset: Int
        public var reason: String
        public var description: String { "\(reason) at byte \(offset)" }
    }

    public static func parse(_ bytes: UnsafeRawBufferPointer) throws(ParseError) -> JSONValue {
        var parser = JSONParser(bytes)
        return try parser.document()
    }

    public static func parse(_ bytes: [UInt8]) throws(ParseError) -> JSONValue {
        var result: Result<JSONValue, ParseError> = .success(.null)
        bytes.withUnsafeBytes { bytes in result = Result { () throws(ParseError) in try parse(bytes) } }
        return try result.get()
    }

    public static func parse(_ text: String) throws(ParseError) -> JSONValue { try parse(Array(text.utf8)) }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) { self = .string(value) }
}

// MARK: reading

extension JSONValue {
    /// The member of an object; nil when absent or when this isn't an object.
    public subscript(name: String) -> JSONValue? {
        get {
            guard case .object(let members) = self else { return nil }
            return members.first { $0.isNamed(name) }?.value
        }
        set {
            var members: [Member] = []
            if case .object(let present) = self { members = present }
            if let index = members.firstIndex(where: { $0.isNamed(name) }) {
                if let newValue { members[index].value = newValue } else { members.remove(at: index) }
            } else if let newValue {
                members.append(Member(name, newValue))
            }
            self = .object(members)
        }
    }

    public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var intValue: Int? { if case .number(let text) = self { Int(text) } else { nil } }
    public var doubleValue: Double? { if case .number(let text) = self { Double(text) } else { nil } }
    public var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    public var members: [Member]? { if case .object(let value) = self { value } else { nil } }
    public var isNull: Bool { self == .null }

    /// The field's word for the kind of value, for error messages.
    public var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }
}

// MARK: writing

extension JSONValue {
    public var text: String {
        var out: [UInt8] = []
        write(to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// Indented by two spaces a level, for people.
    public var prettyText: String {
        var out: [UInt8] = []
        write(to: &out, indent: 0)
        return String(decoding: out, as: UTF8.self)
    }

    /// `indent` nil: no white space at all.
    public func write(to out: inout [UInt8], indent: Int? = nil) {
        switch self {
        case .null: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .number(let text): out += text.utf8
        case .string(let value): appendJSONString(value, to: &out)
        case .array(let elements):
            writeList("[", "]", elements.count, indent, to: &out) { elements[$0].write(to: &$1, indent: indent.map { $0 + 1 }) }
        case .object(let members):
            writeList("{", "}", members.count, indent, to: &out) {
                appendJSONString(members[$0].name, to: &$1)
                $1 += (indent == nil ? ":" : ": ").utf8
                members[$0].value.write(to: &$1, indent: indent.map { $0 + 1 })
            }
        }
    }

    private func writeList(
        _ open: String, _ close: String, _ count: Int, _ indent: Int?, to out: inout [UInt8], _ element: (Int, inout [UInt8]) -> Void
    ) {
        func newLine(_ level: Int) { out += ("\n" + String(repeating: "  ", count: level)).utf8 }
        out += open.utf8
        for index in 0..<count {
            if index > 0 { out += ",".utf8 }
            if let indent { newLine(indent + 1) }
            element(index, &out)
        }
        if count > 0, let indent { newLine(indent) }
        out += close.utf8
    }
}

/// Appends `text` as a JSON string, quotes included.
public func appendJSONString(_ text: String, to out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    let start = out.count
    out.append(contentsOf: text.utf8)
    if !isPlain(out.span.extracting(start..<out.count)) {
        let rest = Array(out[start...])
        out.removeSubrange(start...)
        for byte in rest { appendEscaped(byte, to: &out) }
    }
    out.append(UInt8(ascii: "\""))
}

/// The inside of a string, without its quotes, of bytes that are UTF-8.
public func appendJSONText(_ bytes: Span<UInt8>, to out: inout [UInt8]) {
    if isPlain(bytes) {
        bytes.withUnsafeBufferPointer { out.append(contentsOf: $0) }
    } else {
        for index in bytes.indices { appendEscaped(bytes[index], to: &out) }
    }
}

/// Whether nothing in it needs to be escaped, as in most texts.
private func isPlain(_ bytes: Span<UInt8>) -> Bool {
    guard bytes.count >= 8 else {
        for index in bytes.indices where bytes[index] < 0x20 || bytes[index] == 0x22 || bytes[index] == 0x5c { return false }
        return true
    }
    // Eight at a time, the last eight once more.
    var (at, odd) = (0, UInt64(0))
    while true {
        odd |= JSONScanner.escaped(bytes.bytes.unsafeLoadUnaligned(fromByteOffset: at, as: UInt64.self))
        if at + 8 == bytes.count { return odd & JSONScanner.each(0x80) == 0 }
        at = min(at + 8, bytes.count - 8)
    }
}

private func appendEscaped(_ byte: UInt8, to out: inout [UInt8]) {
    func digit(_ value: UInt8) -> UInt8 { value < 10 ? value + 48 : value + 87 }
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), byte]
    case 0x0a: out += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
    case 0x0d: out += [UInt8(ascii: "\\"), UInt8(ascii: "r")]
    case 0x09: out += [UInt8(ascii: "\\"), UInt8(ascii: "t")]
    case 0..<0x20: out += [UInt8(ascii: "\\"), UInt8(ascii: "u"), 48, 48, digit(byte >> 4), digit(byte & 15)]
    default: out.append(byte)
    }
}
