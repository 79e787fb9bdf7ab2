/// Builds a `JSONValue` with the scanner's rules. Duplicate names in an object are refused: two readers would see two documents.
struct JSONParser {
    private let bytes: UnsafeRawBufferPointer
    private var scanner: JSONScanner

    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        scanner = JSONScanner(bytes)
    }

    mutating func document() throws(JSONValue.ParseError) -> JSONValue {
        let value = try value()
        guard scanner.atEnd() else { throw error("more than one JSON text") }
        return value
    }

    private func error(_ reason: String) -> JSONValue.ParseError { .init(offset: scanner.position, reason: reason) }

    private mutating func value() throws(JSONValue.ParseError) -> JSONValue {
        guard let first = scanner.peek() else { throw error("unexpected end of JSON") }
        switch first {
        case UInt8(ascii: "{"): return try object()
        case UInt8(ascii: "["): return try array()
        case UInt8(ascii: "\""): return .string(try string())
        default:
            let start = scanner.position
            guard scanner.skipValue() else { throw error("not a JSON value") }
            let text = String(decoding: bytes[start..<scanner.position], as: UTF8.self)
            switch text {
            case "true": return .bool(true)
            case "false": return .bool(false)
            case "null": return .null
            default: return .number(text)
            }
        }
    }

    private mutating func object() throws(JSONValue.ParseError) -> JSONValue {
        _ = scanner.take(UInt8(ascii: "{"))
        guard scanner.enter() else { throw error("nested deeper than \(JSONScanner.maximumDepth)") }
        defer { scanner.leave() }
        var members: [JSONValue.Member] = []
        // Of few members a look at each of them costs less than a hash.
        var names: Set<String>?
        if scanner.take(UInt8(ascii: "}")) { return .object(members) }
        repeat {
            guard scanner.peek() == UInt8(ascii: "\"") else { throw error("expected a member name") }
            let name = try string()
            if members.count == Self.fewMembers { names = Set(members.map(\.name)) }
            let isNew = names?.insert(name).inserted ?? !members.contains { $0.name == name }
            guard isNew else { throw error("the name \"\(name)\" stands twice") }
            guard scanner.take(UInt8(ascii: ":")) else { throw error("expected ':'") }
            members.append(.init(name, try value()))
        } while scanner.take(UInt8(ascii: ","))
        guard scanner.take(UInt8(ascii: "}")) else { throw error("expected ',' or '}'") }
        return .object(members)
    }

    private static let fewMembers = 32

    private mutating func array() throws(JSONValue.ParseError) -> JSONValue {
        _ = scanner.take(UInt8(ascii: "["))
        guard scanner.enter() else { throw error("nested deeper than \(JSONScanner.maximumDepth)") }
        defer { scanner.leave() }
        var elements: [JSONValue] = []
        if scanner.take(UInt8(ascii: "]")) { return .array(elements) }
        repeat { elements.append(try value()) } while scanner.take(UInt8(ascii: ","))
        guard scanner.take(UInt8(ascii: "]")) else { throw error("expected ',' or ']'") }
        return .array(elements)
    }

    private mutating func string() throws(JSONValue.ParseError) -> String {
        let start = scanner.position + 1
        guard scanner.skipString() else { throw error("bad string") }
        let raw = bytes[start..<(scanner.position - 1)]
        guard raw.contains(UInt8(ascii: "\\")) else { return String(decoding: raw, as: UTF8.self) }
        return unescape(Array(raw))
    }

    /// `raw` has been checked by the scanner. A lone surrogate becomes U+FFFD.
    private func unescape(_ raw: [UInt8]) -> String {
        var units: [UInt8] = []
        var text = ""
        func flush() {
            text += String(decoding: units, as: UTF8.self)
            units.removeAll(keepingCapacity: true)
        }
        func codeUnit(_ at: Int) -> UInt32? {
            guard at + 6 <= raw.count, raw[at] == UInt8(ascii: "\\"), raw[at + 1] == UInt8(ascii: "u") else { return nil }
            return raw[(at + 2)..<(at + 6)].reduce(0) { $0 << 4 | (hexValue($1) ?? 0) }
        }
        var index = 0
        while index < raw.count {
            guard raw[index] == UInt8(ascii: "\\") else {
                units.append(raw[index])
                index += 1
                continue
            }
            guard let unit = codeUnit(index) else {
                let escapes: [UInt8: UInt8] = [98: 8, 102: 12, 110: 10, 114: 13, 116: 9]
                units.append(escapes[raw[index + 1]] ?? raw[index + 1])
                index += 2
                continue
            }
            index += 6
            flush()
            if (0xd800..<0xdc00).contains(unit), let low = codeUnit(index), (0xdc00..<0xe000).contains(low) {
                index += 6
                text.unicodeScalars.append(Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)) ?? "\u{fffd}")
            } else {
                text.unicodeScalars.append(Unicode.Scalar(unit) ?? "\u{fffd}")
            }
        }
        flush()
        return text
    }
}
