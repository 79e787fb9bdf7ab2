/// RFC 4648 text encodings. Decoders are strict: a byte outside the alphabet, wrong padding or stray trailing bits give nil.
public enum Base64 {
    public enum Alphabet: Sendable { case standard, urlUnpadded }

    public static func encode(_ bytes: [UInt8], _ alphabet: Alphabet = .standard) -> String {
        var out: [UInt8] = []
        append(bytes, alphabet, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    public static func append(_ bytes: [UInt8], _ alphabet: Alphabet = .standard, to out: inout [UInt8]) {
        append(bytes.span, alphabet, to: &out)
    }

    public static func append(_ bytes: Span<UInt8>, _ alphabet: Alphabet = .standard, to out: inout [UInt8]) {
        let characters = alphabet == .standard ? standard : urlUnpadded
        out.append(addingCapacity: (bytes.count + 2) / 3 * 4) { out in
            var at = 0
            while at + 3 <= bytes.count {
                let group = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
                out.append(characters[group >> 18])
                out.append(characters[group >> 12 & 63])
                out.append(characters[group >> 6 & 63])
                out.append(characters[group & 63])
                at += 3
            }
            let left = bytes.count - at
            guard left > 0 else { return }
            let group = Int(bytes[at]) << 16 | (left > 1 ? Int(bytes[at + 1]) << 8 : 0)
            for index in 0...left { out.append(characters[group >> (18 - 6 * index) & 63]) }
            if alphabet == .standard { for _ in left..<3 { out.append(UInt8(ascii: "=")) } }
        }
    }

    private static let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    private static let standard = Array((letters + "+/").utf8)
    private static let urlUnpadded = Array((letters + "-_").utf8)

    public static func decode(_ text: String, _ alphabet: Alphabet = .standard) -> [UInt8]? {
        var characters = Array(text.utf8)
        if alphabet == .standard {
            guard characters.count % 4 == 0 else { return nil }
            for _ in 0..<2 where characters.last == UInt8(ascii: "=") { characters.removeLast() }
        }
        guard characters.count % 4 != 1 else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(characters.count * 3 / 4)
        var group: UInt32 = 0
        var bits: UInt32 = 0
        for character in characters {
            guard let value = value(of: character, alphabet) else { return nil }
            group = group << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                out.append(UInt8(truncatingIfNeeded: group >> bits))
                group &= (1 << bits) - 1
            }
        }
        return group == 0 ? out : nil
    }

    private static func value(of character: UInt8, _ alphabet: Alphabet) -> UInt8? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - 65
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - 71
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character + 4
        case UInt8(ascii: "+") where alphabet == .standard: 62
        case UInt8(ascii: "/") where alphabet == .standard: 63
        case UInt8(ascii: "-") where alphabet == .urlUnpadded: 62
        case UInt8(ascii: "_") where alphabet == .urlUnpadded: 63
        default: nil
        }
    }
}

/// Lowercase unpadded base32: 16 bytes become 26 characters.
public enum Base32 {
    public static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        append(bytes.span, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    public static func append(_ bytes: Span<UInt8>, to out: inout [UInt8]) {
        out.append(addingCapacity: (bytes.count * 8 + 4) / 5) { append(bytes, to: &$0) }
    }

    public static func append(_ bytes: Span<UInt8>, to out: inout OutputSpan<UInt8>) {
        func character(_ value: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: value < 26 ? value + 97 : value + 24) }
        func four(_ bits: UInt32, _ out: inout OutputSpan<UInt8>) {
            out.append(character(bits >> 15))
            out.append(character(bits >> 10 & 31))
            out.append(character(bits >> 5 & 31))
            out.append(character(bits & 31))
        }
        var at = 0
        while at + 5 <= bytes.count {
            let first = UInt32(bytes[at]) << 12 | UInt32(bytes[at + 1]) << 4 | UInt32(bytes[at + 2]) >> 4
            let second = UInt32(bytes[at + 2] & 15) << 16 | UInt32(bytes[at + 3]) << 8 | UInt32(bytes[at + 4])
            four(first, &out)
            four(second, &out)
            at += 5
        }
        var group: UInt32 = 0
        var bits: UInt32 = 0
        for index in at..<bytes.count {
            group = group << 8 | UInt32(bytes[index])
            bits += 8
            while bits >= 5 {
                bits -= 5
                out.append(character(group >> bits & 31))
            }
            group &= (1 << bits) - 1
        }
        if bits > 0 { out.append(character(group << (5 - bits) & 31)) }
    }
}

public enum Hex {
    public static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        append(bytes, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    public static func append(_ bytes: [UInt8], to out: inout [UInt8]) {
        func digit(_ value: UInt8) -> UInt8 { value < 10 ? value + 48 : value + 87 }
        for byte in bytes {
            out.append(digit(byte >> 4))
            out.append(digit(byte & 15))
        }
    }
}

extension [UInt8] {
    /// Appends a literal as UTF-8: a copy, where a string's bytes are asked for one by one and a constant array is counted.
    @inlinable public mutating func append(_ literal: StaticString) {
        literal.withUTF8Buffer { append(contentsOf: $0) }
    }

    @inlinable public mutating func append(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBufferPointer { append(contentsOf: $0) }
    }
}

/// Numbers as text, without a string in between.
public enum Decimal {
    public static func append(_ number: Int, to out: inout [UInt8]) {
        if number >= 0, number < 10 { return out.append(48 + UInt8(truncatingIfNeeded: number)) }
        with(number) { out.append($0) }
    }

    /// The digits, for that long.
    @inlinable public static func with<Result>(_ number: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var (at, rest) = (20, number.magnitude)
        repeat {
            at -= 1
            digits[at] = 48 + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        } while rest > 0
        if number < 0 {
            at -= 1
            digits[at] = UInt8(ascii: "-")
        }
        return body(digits.span.extracting(at..<20))
    }
}
