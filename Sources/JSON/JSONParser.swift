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
            let isNew = names?.insert(name).inserted ?? !members.contains { $0.isNamed(name) }
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
        guard let string = scanner.takeString() else { throw error("bad string") }
        return string.text
    }
}
