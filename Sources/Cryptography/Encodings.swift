/// RFC 4648 text encodings. Decoders are strict: a byte outside the alphabet, wrong padding or stray trailing bits give nil.
public enum Base64 {
    public enum Alphabet: Sendable { case standard, urlUnpadded }

    public static func encode(_ bytes: [UInt8], _ alphabet: Alphabet = .standard) -> String {
        var out: [UInt8] = []
        append(bytes, alphabet, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    public static func append(_ bytes: [UInt8], _ alphabet: Alphabet = .standard, to out: inout [UInt8]) {
        var group: UInt32 = 0
        var held = 0
        for byte in bytes {
            group = group << 8 | UInt32(byte)
            held += 1
            if held == 3 {
                out.append(character(UInt8(group >> 18 & 63), alphabet))
                out.append(character(UInt8(group >> 12 & 63), alphabet))
                out.append(character(UInt8(group >> 6 & 63), alphabet))
                out.append(character(UInt8(group & 63), alphabet))
                group = 0
                held = 0
            }
        }
        guard held > 0 else { return }
        group <<= UInt32(8 * (3 - held))
        for index in 0...held { out.append(character(UInt8(group >> UInt32(18 - 6 * index) & 63), alphabet)) }
        if alphabet == .standard { for _ in held..<3 { out.append(UInt8(ascii: "=")) } }
    }

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

    private static func character(_ value: UInt8, _ alphabet: Alphabet) -> UInt8 {
        switch value {
        case 0..<26: value + 65
        case 26..<52: value + 71
        case 52..<62: value - 4
        case 62: alphabet == .standard ? UInt8(ascii: "+") : UInt8(ascii: "-")
        default: alphabet == .standard ? UInt8(ascii: "/") : UInt8(ascii: "_")
        }
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
        append(bytes, count: bytes.count, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// The first `count` of `bytes`.
    public static func append(_ bytes: [UInt8], count: Int, to out: inout [UInt8]) {
        func character(_ value: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: value < 26 ? value + 97 : value + 24) }
        var group: UInt32 = 0
        var bits: UInt32 = 0
        for index in 0..<count {
            let byte = bytes[index]
            group = group << 8 | UInt32(byte)
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

/// Numbers as text, without a string in between.
public enum Decimal {
    public static func append(_ number: Int, to out: inout [UInt8]) {
        guard number >= 10 else {
            if number >= 0 { return out.append(48 + UInt8(truncatingIfNeeded: number)) }
            return out.append(contentsOf: String(number).utf8)
        }
        var digits = 1
        var limit = 10
        while digits < 19, number >= limit {
            digits += 1
            (limit, _) = limit.multipliedReportingOverflow(by: 10)
        }
        for _ in 0..<digits { out.append(48) }
        var rest = number
        var place = out.count - 1
        while rest > 0 {
            out[place] = 48 + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
            place -= 1
        }
    }
}
