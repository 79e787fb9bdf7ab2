/// An IPv4 or IPv6 address as a number.
public struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    public enum Family: Sendable { case v4, v6 }
    public let family: Family
    /// 128 bits; a v4 address stands in the low 32.
    public let high: UInt64
    public let low: UInt64

    public init(v4: UInt32) { (family, high, low) = (.v4, 0, UInt64(v4)) }
    public init(v6 high: UInt64, _ low: UInt64) { (family, self.high, self.low) = (.v6, high, low) }

    /// Strict forms only: dotted quad without leading zeros, RFC 4291 text without zone.
    public init?(_ text: some StringProtocol) {
        let parsed = text.contains(":") ? Self.parseV6(Array(text.utf8)) : Self.parseV4(Array(text.utf8)).map { IPAddress(v4: $0) }
        guard let parsed else { return nil }
        self = parsed
    }

    /// `::ffff:a.b.c.d` → a.b.c.d; everything else as is.
    public var unmapped: IPAddress {
        family == .v6 && high == 0 && low >> 32 == 0xffff ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : self
    }

    /// The IPv4 address that a NAT64 gateway reaches for one in 64:ff9b::/96 (RFC 6052); nil for any other.
    public var behindNAT64: IPAddress? {
        family == .v6 && high == 0x0064_ff9b_0000_0000 && low >> 32 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : nil
    }

    private static func parseV4(_ text: [UInt8]) -> UInt32? {
        let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.count), part.allSatisfy({ $0 &- 48 < 10 }), part.count == 1 || part.first != 48 else { return nil }
            let number = part.reduce(UInt32(0)) { $0 * 10 + UInt32($1 - 48) }
            guard number < 256 else { return nil }
            value = value << 8 | number
        }
        return value
    }

    private static func parseV6(_ text: [UInt8]) -> IPAddress? {
        var head: [UInt16] = []
        var tail: [UInt16]?
        var rest = text[...]
        if rest.starts(with: [58, 58]) {
            tail = []
            rest = rest.dropFirst(2)
        } else if rest.first == 58 {
            return nil
        }
        while !rest.isEmpty {
            let part = rest.prefix { $0 != 58 }
            var groups: [UInt16]
            if part.contains(46) {
                guard part.count == rest.count, let v4 = parseV4(Array(part)) else { return nil }
                groups = [UInt16(v4 >> 16), UInt16(truncatingIfNeeded: v4)]
            } else {
                guard (1...4).contains(part.count), let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16), part.first != 43,
                    part.first != 45
                else { return nil }
                groups = [group]
            }
            if tail == nil { head += groups } else { tail! += groups }
            rest = rest.dropFirst(part.count)
            guard !rest.isEmpty else { break }
            rest = rest.dropFirst()
            if rest.first == 58 {
                guard tail == nil else { return nil }
                tail = []
                rest = rest.dropFirst()
            } else if rest.isEmpty {
                return nil
            }
        }
        let missing = 8 - head.count - (tail?.count ?? 0)
        guard tail == nil ? missing == 0 : missing >= 1 else { return nil }
        let all = head + Array(repeating: 0, count: missing) + (tail ?? [])
        func word(_ groups: ArraySlice<UInt16>) -> UInt64 { groups.reduce(0) { $0 << 16 | UInt64($1) } }
        return IPAddress(v6: word(all[0..<4]), word(all[4..<8]))
    }

    public var description: String {
        if family == .v4 { return (0..<4).map { String(low >> (24 - 8 * $0) & 255) }.joined(separator: ".") }
        let groups = (0..<8).map { $0 < 4 ? high >> (48 - 16 * $0) & 0xffff : low >> (48 - 16 * ($0 - 4)) & 0xffff }
        var best = 0..<0
        var start = 0
        while start < 8 {
            let end = groups[start...].firstIndex { $0 != 0 } ?? 8
            if end - start > max(best.count, 1) { best = start..<end }
            start = max(end, start) + 1
        }
        func text(_ range: Range<Int>) -> String { range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
        return best.isEmpty ? text(0..<8) : "\(text(0..<best.lowerBound))::\(text(best.upperBound..<8))"
    }
}

/// A range of addresses in CIDR notation.
public struct Network: Hashable, Sendable, CustomStringConvertible {
    public let base: IPAddress
    public let prefix: Int

    /// `10.0.0.0/8`, `2001:db8::/32`, or one address.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let base = IPAddress(parts[0]) else { return nil }
        let width = base.family == .v4 ? 32 : 128
        guard let prefix = parts.count == 1 ? width : Int(parts[1]), (0...width).contains(prefix) else { return nil }
        // What is compared has been unmapped.
        let isMapped = base.unmapped != base && prefix >= 96
        (self.base, self.prefix) = isMapped ? (base.unmapped, prefix - 96) : (base, prefix)
    }

    public func contains(_ address: IPAddress) -> Bool {
        guard address.family == base.family else { return false }
        let bits = address.family == .v4 ? prefix + 96 : prefix
        func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(.max >> UInt64(bits)) }
        return (address.high ^ base.high) & mask(address.family == .v4 ? 0 : bits) == 0 && (address.low ^ base.low) & mask(bits - 64) == 0
    }

    public var description: String { "\(base)/\(prefix)" }
}
