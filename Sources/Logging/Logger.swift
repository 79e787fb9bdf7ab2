public import JSON
internal import Glibc

public enum LogLevel: Int, Sendable, Comparable, CaseIterable {
    case debug, info, warning, error

    public init?(name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }
    public var name: String { "\(self)" }
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

public enum LogFormat: String, Sendable, CaseIterable { case text, json }

/// Structured logging to standard error: text for people, one JSON object per line for machines. A line is built only if its level is on
/// and goes out in one write, so lines of several threads don't mix.
public struct Logger: Sendable {
    public var level: LogLevel
    public var format: LogFormat
    public var coloured: Bool
    private var context: [JSONValue.Member] = []
    private let write: @Sendable ([UInt8]) -> Void

    public init(
        level: LogLevel = .info, format: LogFormat = .text, coloured: Bool = false, write: (@Sendable ([UInt8]) -> Void)? = nil
    ) {
        (self.level, self.format, self.coloured) = (level, format, coloured)
        self.write = write ?? { line in _ = line.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) } }
    }

    /// The same logger with a key that stands on every line.
    public func with(_ key: String, _ value: String) -> Logger {
        var copy = self
        copy.context.append(.init(key, .string(value)))
        return copy
    }

    public func debug(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> KeyValuePairs<String, JSONValue> = [:]) {
        if level <= .debug { emit(.debug, message(), fields()) }
    }
    public func info(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> KeyValuePairs<String, JSONValue> = [:]) {
        if level <= .info { emit(.info, message(), fields()) }
    }
    public func warning(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> KeyValuePairs<String, JSONValue> = [:]) {
        if level <= .warning { emit(.warning, message(), fields()) }
    }
    public func error(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> KeyValuePairs<String, JSONValue> = [:]) {
        if level <= .error { emit(.error, message(), fields()) }
    }

    private func emit(_ level: LogLevel, _ message: String, _ fields: KeyValuePairs<String, JSONValue>) {
        let all = context + fields.map { JSONValue.Member($0.key, $0.value) }
        var line: [UInt8] = []
        switch format {
        case .json:
            let head = [
                JSONValue.Member("time", .string(timestamp())), .init("level", .string(level.name)), .init("message", .string(message)),
            ]
            JSONValue.object(head + all).write(to: &line)
        case .text:
            let colour = [LogLevel.debug: "\u{1b}[2m", .warning: "\u{1b}[33m", .error: "\u{1b}[31m"][level]
            line += timestamp().utf8
            line +=
                " \(coloured ? colour ?? "" : "")\(level.name.uppercased())\(coloured && colour != nil ? "\u{1b}[0m" : "") \(oneLine(message))"
                .utf8
            for field in all {
                line += " \(field.name)=".utf8
                if case .string(let value) = field.value, !value.isEmpty, value.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x22 && $0 != 0x7f }) {
                    line += value.utf8
                } else {
                    field.value.write(to: &line)
                }
            }
        }
        line.append(0x0a)
        write(line)
    }

    /// Control bytes of foreign text would forge lines or drive the terminal.
    private func oneLine(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : $0 }))
    }

    /// RFC 3339, UTC, milliseconds.
    private func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let milliseconds = String(1000 + now.tv_nsec / 1_000_000).dropFirst()
        return
            "\(1900 + Int(parts.tm_year))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(milliseconds)Z"
    }
}
