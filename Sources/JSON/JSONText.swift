/// A string of a document, as it stands between its quotes; it has been checked. Valid as long as the document's bytes.
public struct JSONText {
    let raw: UnsafeRawBufferPointer
    /// Without them what stands there is the text.
    let hasEscapes: Bool

    public var text: String { hasEscapes ? unescaped : String(decoding: raw, as: UTF8.self) }

    /// The text's bytes, for that long.
    public func withUTF8<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        hasEscapes ? Array(unescaped.utf8).withUnsafeBytes(body) : body(raw)
    }

    /// A lone surrogate becomes U+FFFD.
    private var unescaped: String {
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

extension JSONScanner {
    /// Takes a string at the opening quote.
    public mutating func takeString() -> JSONText? {
        let start = position + 1
        guard skipString() else { return nil }
        return JSONText(raw: slice(start..<(position - 1)), hasEscapes: hasEscapes)
    }
}
