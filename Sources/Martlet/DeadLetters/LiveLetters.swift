internal import Cryptography

/// Which records of one partition of the dead-letter topic are live. Compaction is lazy: a log may hold many records of a key, and only the
/// last one counts; a tombstone as the last one means that the letter has left. Built from a first reading of keys, asked in a second.
///
/// A table of 16 bytes of SHA-256 of the key and an offset, 24 bytes an entry, open addressing, at most 17/20 full and grown by half: at
/// most 43 bytes per key.
public struct LiveLetters: Sendable {
    private struct Entry: Sendable {
        var high: UInt64 = 0
        var low: UInt64 = 0
        /// -1: a free entry. Of a tombstone, -2 minus its offset.
        var last: Int64 = -1
    }

    private var entries: [Entry]
    /// Keys seen, those that have left included.
    public private(set) var keys = 0
    /// Letters that are live.
    public private(set) var live = 0

    public init() { entries = Array(repeating: Entry(), count: 64) }

    /// A record of the partition, in the order of offsets.
    public mutating func saw(key: UnsafeRawBufferPointer, offset: Int64, isTombstone: Bool) {
        let (high, low) = Self.hash(key)
        let slot = slot(high, low)
        if entries[slot].last == -1 {
            keys += 1
        } else if entries[slot].last >= 0 {
            live -= 1
        }
        entries[slot] = Entry(high: high, low: low, last: isTombstone ? -2 - offset : offset)
        if !isTombstone { live += 1 }
        if keys * 20 > entries.count * 17 { grow() }
    }

    /// Whether the record at `offset` is its key's last, and no tombstone.
    public func isLive(key: UnsafeRawBufferPointer, offset: Int64) -> Bool {
        let (high, low) = Self.hash(key)
        return entries[slot(high, low)].last == offset
    }

    /// Bytes held.
    public var bytes: Int { entries.count * MemoryLayout<Entry>.stride }

    private static func hash(_ key: UnsafeRawBufferPointer) -> (UInt64, UInt64) {
        let digest = SHA256.digest(Array(key))
        func word(_ from: Int) -> UInt64 { digest[from..<from + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        return (word(0), word(8))
    }

    private func slot(_ high: UInt64, _ low: UInt64) -> Int {
        var slot = Int(high.multipliedFullWidth(by: UInt64(entries.count)).high)
        while entries[slot].last != -1, entries[slot].high != high || entries[slot].low != low {
            slot = slot + 1 == entries.count ? 0 : slot + 1
        }
        return slot
    }

    private mutating func grow() {
        let old = entries
        entries = Array(repeating: Entry(), count: old.count * 3 / 2)
        for entry in old where entry.last != -1 { entries[slot(entry.high, entry.low)] = entry }
    }
}
