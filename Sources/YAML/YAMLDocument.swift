internal import CYAML
public import JSON

/// One YAML document as a `JSONValue`, through libyaml's event parser. Stricter than YAML: duplicate keys, anchors, aliases, tags, several
/// documents and deep nesting are errors with line and column. Plain scalars follow YAML 1.2's core schema.
public enum YAMLDocument {
    public static let maximumDepth = 32

    public struct ParseError: Error, CustomStringConvertible, Equatable {
        public var line: Int
        public var column: Int
        public var reason: String
        public var description: String { "line \(line), column \(column): \(reason)" }
    }

    public static func parse(_ text: String) throws(ParseError) -> JSONValue {
        var reader = YAMLReader(text: text)
        return try reader.document()
    }
}

private struct YAMLReader: ~Copyable {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let input: UnsafeMutableBufferPointer<UInt8>
    private var event = yaml_event_t()

    init(text: String) {
        parser = .allocate(capacity: 1)
        yaml_parser_initialize(parser)
        input = .allocate(capacity: text.utf8.count)
        _ = input.initialize(from: text.utf8)
        yaml_parser_set_input_string(parser, input.baseAddress, input.count)
    }

    deinit {
        var last = event
        yaml_event_delete(&last)
        yaml_parser_delete(parser)
        parser.deallocate()
        input.deallocate()
    }

    mutating func document() throws(YAMLDocument.ParseError) -> JSONValue {
        try advance()
        try advance()
        if event.type == YAML_STREAM_END_EVENT { return .null }
        try advance()
        let value = try value(depth: 0)
        try advance()
        try advance()
        guard event.type == YAML_STREAM_END_EVENT else { throw failure("a second document; one file holds one document") }
        return value
    }

    private mutating func advance() throws(YAMLDocument.ParseError) {
        yaml_event_delete(&event)
        guard yaml_parser_parse(parser, &event) == 1 else {
            let problem = parser.pointee.problem.map { String(cString: $0) } ?? "not YAML"
            let mark = parser.pointee.problem_mark
            throw YAMLDocument.ParseError(line: mark.line + 1, column: mark.column + 1, reason: problem)
        }
    }

    private func failure(_ reason: String) -> YAMLDocument.ParseError {
        .init(line: event.start_mark.line + 1, column: event.start_mark.column + 1, reason: reason)
    }

    private mutating func value(depth: Int) throws(YAMLDocument.ParseError) -> JSONValue {
        guard depth < YAMLDocument.maximumDepth else { throw failure("nested deeper than \(YAMLDocument.maximumDepth)") }
        switch event.type {
        case YAML_SCALAR_EVENT: return try scalar()
        case YAML_SEQUENCE_START_EVENT:
            guard event.data.sequence_start.anchor == nil else { throw failure("anchors aren't supported") }
            var elements: [JSONValue] = []
            try advance()
            while event.type != YAML_SEQUENCE_END_EVENT {
                elements.append(try value(depth: depth + 1))
                try advance()
            }
            return .array(elements)
        case YAML_MAPPING_START_EVENT:
            guard event.data.mapping_start.anchor == nil else { throw failure("anchors aren't supported") }
            return try mapping(depth: depth)
        case YAML_ALIAS_EVENT: throw failure("aliases aren't supported")
        default: throw failure("unexpected end")
        }
    }

    private mutating func mapping(depth: Int) throws(YAMLDocument.ParseError) -> JSONValue {
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        try advance()
        while event.type != YAML_MAPPING_END_EVENT {
            guard event.type == YAML_SCALAR_EVENT else { throw failure("a key must be a plain word") }
            let name = text()
            guard names.insert(name).inserted else { throw failure("the key \"\(name)\" stands twice") }
            try advance()
            members.append(.init(name, try value(depth: depth + 1)))
            try advance()
        }
        return .object(members)
    }

    private func text() -> String {
        let scalar = event.data.scalar
        return String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
    }

    private func scalar() throws(YAMLDocument.ParseError) -> JSONValue {
        guard event.data.scalar.anchor == nil else { throw failure("anchors aren't supported") }
        guard event.data.scalar.tag == nil else { throw failure("tags aren't supported") }
        let text = text()
        guard event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE else { return .string(text) }
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .bool(true)
        case "false", "False", "FALSE": return .bool(false)
        default:
            if text.utf8.count < 40, let first = text.utf8.first, first == 0x2d || first &- 48 < 10, JSONScanner.isNumber(text) {
                return .number(text)
            }
            return .string(text)
        }
    }
}

extension JSONScanner {
    fileprivate static func isNumber(_ text: String) -> Bool { Array(text.utf8).withUnsafeBytes { isValid($0) } }
}
