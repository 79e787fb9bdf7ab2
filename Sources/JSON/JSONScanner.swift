/// A strict RFC 8259 scanner over bytes: it checks that a document is JSON (UTF-8 included) and finds where its parts lie, without building
/// anything. Depth is bounded, so that hostile nesting costs an error and not the stack.
public struct JSONScanner {
    /// The deepest nesting of arrays and objects that is read.
    public static let maximumDepth = 256

    private let bytes: UnsafeBufferPointer<UInt8>
    public private(set) var position = 0
    /// The last string has escapes.
    private(set) var hasEscapes = false
    private var depth = 0

    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes.bindMemory(to: UInt8.self) }

    /// Whether `bytes` is exactly one JSON text.
    public static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var scanner = JSONScanner(bytes)
        return scanner.skipValue() && scanner.atEnd()
    }

    /// Skips white space; true at the end of the input.
    public mutating func atEnd() -> Bool {
        skipSpace()
        return position == bytes.count
    }

    /// The next byte after white space, nil at the end.
    public mutating func peek() -> UInt8? {
        skipSpace()
        return position < bytes.count ? bytes[position] : nil
    }

    /// Takes `byte` after white space, if it is next.
    public mutating func take(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    /// Skips one value of any kind; false when it isn't JSON.
    public mutating func skipValue() -> Bool {
        guard let first = peek() else { return false }
        switch first {
        case UInt8(ascii: "{"): return skipObject()
        case UInt8(ascii: "["): return skipArray()
        case UInt8(ascii: "\""): return skipString()
        case UInt8(ascii: "t"): return skipLiteral("true")
        case UInt8(ascii: "f"): return skipLiteral("false")
        case UInt8(ascii: "n"): return skipLiteral("null")
        default: return skipNumber()
        }
    }

    public mutating func enter() -> Bool {
        depth += 1
        return depth <= Self.maximumDepth
    }

    public mutating func leave() { depth -= 1 }

    func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: bytes[range])) }

    private mutating func skipObject() -> Bool {
        position += 1
        guard enter() else { return false }
        defer { leave() }
        if take(UInt8(ascii: "}")) { return true }
        repeat {
            guard peek() == UInt8(ascii: "\""), skipString(), take(UInt8(ascii: ":")), skipValue() else { return false }
        } while take(UInt8(ascii: ","))
        return take(UInt8(ascii: "}"))
    }

    private mutating func skipArray() -> Bool {
        position += 1
        guard enter() else { return false }
        defer { leave() }
        if take(UInt8(ascii: "]")) { return true }
        repeat { guard skipValue() else { return false } } while take(UInt8(ascii: ","))
        return take(UInt8(ascii: "]"))
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0a, 0x0d: position += 1
            default: return
            }
        }
    }

    private mutating func skipLiteral(_ literal: StaticString) -> Bool {
        let count = literal.utf8CodeUnitCount
        guard bytes.count - position >= count else { return false }
        for index in 0..<count where bytes[position + index] != literal.utf8Start[index] { return false }
        position += count
        return true
    }

    private mutating func skipDigits() -> Bool {
        let start = position
        while position < bytes.count, bytes[position] &- 48 < 10 { position += 1 }
        return position > start
    }

    private mutating func skipNumber() -> Bool {
        if position < bytes.count, bytes[position] == UInt8(ascii: "-") { position += 1 }
        let start = position
        guard skipDigits() else { return false }
        if bytes[start] == UInt8(ascii: "0"), position - start > 1 { return false }
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            position += 1
            guard skipDigits() else { return false }
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            position += 1
            if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") { position += 1 }
            guard skipDigits() else { return false }
        }
        return true
    }

    /// Skips a string at the opening quote; checks escapes and UTF-8.
    public mutating func skipString() -> Bool {
        position += 1
        hasEscapes = false
        while position < bytes.count {
            skipPlain()
            guard position < bytes.count else { return false }
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                return true
            case UInt8(ascii: "\\"): guard skipEscape() else { return false }
            case 0x20...0x7f: position += 1
            case 0x80...: guard skipMultibyte() else { return false }
            default: return false
            }
        }
        return false
    }

    /// Skips most of what stands in strings, eight bytes at once: ASCII without quotes, backslashes and controls.
    private mutating func skipPlain() {
        let raw = UnsafeRawBufferPointer(bytes)
        var at = position
        while at + 8 <= raw.count {
            let eight = raw.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let other = (Self.escaped(eight) | eight) & Self.each(0x80)
            // The lowest bit is right; those above it may be carried ones.
            guard other == 0 else {
                at += UInt64(littleEndian: other).trailingZeroBitCount / 8
                break
            }
            at += 8
        }
        position = at
    }

    /// The high bit of some byte is set where one of the eight is a control, a quote or a backslash. Other bits don't count.
    static func escaped(_ eight: UInt64) -> UInt64 {
        below20(eight) | zero(eight ^ each(UInt8(ascii: "\""))) | zero(eight ^ each(UInt8(ascii: "\\")))
    }

    static func each(_ byte: UInt8) -> UInt64 { 0x0101_0101_0101_0101 &* UInt64(byte) }
    private static func below20(_ eight: UInt64) -> UInt64 { (eight &- each(0x20)) & ~eight }
    private static func zero(_ eight: UInt64) -> UInt64 { (eight &- each(0x01)) & ~eight }

    private mutating func skipEscape() -> Bool {
        hasEscapes = true
        guard position + 1 < bytes.count else { return false }
        switch bytes[position + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            position += 2
            return true
        case UInt8(ascii: "u"):
            guard position + 6 <= bytes.count else { return false }
            for index in 2..<6 where hexValue(bytes[position + index]) == nil { return false }
            position += 6
            return true
        default: return false
        }
    }

    /// One UTF-8 sequence of two to four bytes: no overlong forms, no surrogates, nothing above U+10FFFF.
    private mutating func skipMultibyte() -> Bool {
        let lead = bytes[position]
        let length: Int
        var low: UInt8 = 0x80
        var high: UInt8 = 0xbf
        switch lead {
        case 0xc2...0xdf: length = 2
        case 0xe0: (length, low) = (3, 0xa0)
        case 0xed: (length, high) = (3, 0x9f)
        case 0xe1...0xef: length = 3
        case 0xf0: (length, low) = (4, 0x90)
        case 0xf4: (length, high) = (4, 0x8f)
        case 0xf1...0xf3: length = 4
        default: return false
        }
        guard position + length <= bytes.count, (low...high).contains(bytes[position + 1]) else { return false }
        for index in 2..<max(length, 2) where bytes[position + index] & 0xc0 != 0x80 { return false }
        position += length
        return true
    }
}

func hexValue(_ byte: UInt8) -> UInt32? {
    switch byte {
    case 48...57: UInt32(byte) - 48
    case 65...70: UInt32(byte) - 55
    case 97...102: UInt32(byte) - 87
    default: nil
    }
}
