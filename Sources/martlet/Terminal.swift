internal import ArgumentParsing
internal import Glibc

/// Standard output and standard error, with colour only on a terminal.
struct Terminal: Sendable {
    var isColoured: Bool

    init(_ arguments: Arguments?) {
        switch arguments?.text("color") {
        case "always": isColoured = true
        case "never": isColoured = false
        default: isColoured = isatty(1) == 1 && getenv("NO_COLOR") == nil
        }
    }

    static var errorIsTerminal: Bool { isatty(2) == 1 }
    /// Of standard output, when that is a terminal.
    static var columns: Int? {
        var size = winsize()
        return isatty(1) == 1 && ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : nil
    }

    static var inputIsTerminal: Bool { isatty(0) == 1 }

    /// A result, on standard output. Control characters beyond ASCII, which only foreign text has, come as JSON writes them.
    func print(_ text: String) { Self.write(Self.withoutC1(text) + "\n", to: 1) }
    /// Progress or a message, on standard error.
    func note(_ text: String) { Self.write(text + "\n", to: 2) }
    /// A question, on standard error, without an end of line.
    func ask(_ text: String) { Self.write(text, to: 2) }
    /// Overwrites the current line of a terminal.
    func progress(_ text: String) { if Self.errorIsTerminal { Self.write("\r\u{1b}[K" + text, to: 2) } }
    func endProgress() { if Self.errorIsTerminal { Self.write("\r\u{1b}[K", to: 2) } }

    private static func write(_ text: String, to fd: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
            guard count > 0 else {
                if count < 0, errno == EINTR { continue }
                if fd == 1 { endWithoutOutput(errno) }
                return
            }
            bytes = bytes.dropFirst(count)
        }
    }

    /// A result that can't be written is a failure; nobody reading on (`| head`) is the end, as the signal would have it.
    private static func endWithoutOutput(_ error: Int32) -> Never {
        if error == EPIPE { exit(128 + SIGPIPE) }
        write("martlet: standard output can't be written: \(String(cString: strerror(error)))\n", to: 2)
        exit(1)
    }

    private static func withoutC1(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { (0x7f..<0xa0).contains($0.value) }) else { return text }
        return text.unicodeScalars.reduce(into: "") { all, scalar in
            if (0x7f..<0xa0).contains(scalar.value) {
                all += "\\u00" + String(scalar.value, radix: 16)
            } else {
                all.unicodeScalars.append(scalar)
            }
        }
    }

    /// `1 dead letter`, `2 dead letters`
    static func count(_ number: some BinaryInteger, _ noun: String, _ plural: String? = nil) -> String {
        "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
    }

    /// `1.4 MB`
    static func size(_ bytes: Int) -> String {
        for (unit, scale) in [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)] where bytes >= scale {
            return "\(bytes / scale).\(bytes % scale * 10 / scale) \(unit)"
        }
        return "\(bytes) B"
    }

    enum Colour: String { case red = "31", green = "32", yellow = "33", blue = "34", grey = "2", bold = "1" }

    func paint(_ text: String, _ colour: Colour) -> String { isColoured ? "\u{1b}[\(colour.rawValue)m\(text)\u{1b}[0m" : text }

    /// Foreign text without control bytes.
    static func safe(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) ? "\u{fffd}" : $0 }))
    }

    /// Columns as wide as their widest cell; the last one isn't padded. Numbers go right.
    func table(_ header: [String], _ rows: [[String]], numeric: Set<Int> = []) -> String {
        let widths = header.indices.map { column in ([header] + rows).map { $0[column].count }.max() ?? 0 }
        func line(_ cells: [String]) -> String {
            cells.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if numeric.contains(column) { return padding + cell }
                return column == cells.count - 1 ? cell : cell + padding
            }.joined(separator: "  ")
        }
        return ([paint(line(header), .bold)] + rows.map(line)).joined(separator: "\n")
    }
}

enum Files {
    static func read(_ path: String) throws -> String {
        guard let text = String(validating: try readBytes(path), as: UTF8.self) else { throw UsageError("\(path) isn't UTF-8 text") }
        return text
    }

    /// `-` is standard input.
    static func readBytes(_ path: String) throws -> [UInt8] {
        guard let file = path == "-" ? fdopen(dup(0), "r") : fopen(path, "r") else {
            throw UsageError("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            guard count > 0 else { return bytes }
            bytes += chunk[0..<count]
        }
    }

    /// Calls `body` for each line without its end; stops when it returns false.
    static func forEachLine(_ path: String, _ body: ([UInt8]) throws -> Bool) throws {
        guard let file = path == "-" ? fdopen(dup(0), "r") : fopen(path, "r") else {
            throw UsageError("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while true {
            let count = getline(&line, &capacity, file)
            guard count >= 0, let line else { return }
            var bytes = Array(UnsafeRawBufferPointer(start: line, count: count))
            while bytes.last == 0x0a || bytes.last == 0x0d { bytes.removeLast() }
            guard try body(bytes) else { return }
        }
    }
}

/// A command failed in a way that has its own exit code.
struct CommandFailure: Error, CustomStringConvertible {
    var exitCode: Int32
    var description: String
    init(_ exitCode: Int32, _ description: String) { (self.exitCode, self.description) = (exitCode, description) }
}
