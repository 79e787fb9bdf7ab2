internal import Cryptography

/// Which records of one partition of the dead-letter topic are live. Compaction is lazy: a log may hold many records of a key, and only the
/// last one counts; a tombstone as the last one means that the letter has left. Built from a first reading of keys, asked in a second.
///
/// Tables of 16 bytes of SHA-256 of the key and an offset, 24 bytes an entry, open addressing, at most 17/20 full and grown by half: at
/// most 43 bytes per key. 64 of them, by the key's hash: while one grows, old and new together are a small part of the whole.
public struct LiveLetters: Sendable {
    private struct Entry: Sendable {
        var high: UInt64 = 0
        var low: UInt64 = 0
        /// -1: a free entry. Of a tombstone, -2 minus its offset.
        var last: Int64 = -1
    }

    private static let tableCount: UInt64 = 64
    private var tables: [[Entry]]
    /// Keys of each table.
    private var counts: [Int]
    /// Keys seen, those that have left included.
    public private(set) var keys = 0
    /// Letters that are live.
    public private(set) var live = 0

    public init() {
        tables = Array(repeating: Array(repeating: Entry(), count: 8), count: Int(Self.tableCount))
        counts = Array(repeating: 0, count: tables.count)
    }

    /// A record of the partition, in the order of offsets.
    public mutating func saw(key: UnsafeRawBufferPointer, offset: Int64, isTombstone: Bool) {
        let (high, low) = Self.hash(key)
        let table = Int(low % Self.tableCount)
        let slot = Self.slot(in: tables[table], high, low)
        let last = tables[table][slot].last
        if last == -1 {
            keys += 1
            counts[table] += 1
        } else if last >= 0 {
            live -= 1
        }
        tables[table][slot] = Entry(high: high, low: low, last: isTombstone ? -2 - offset : offset)
        if !isTombstone { live += 1 }
        if counts[table] * 20 > tables[table].count * 17 { grow(table) }
    }

    /// Whether the record at `offset` is its key's last, and no tombstone.
    public func isLive(key: UnsafeRawBufferPointer, offset: Int64) -> Bool {
        let (high, low) = Self.hash(key)
        let table = tables[Int(low % Self.tableCount)]
        return table[Self.slot(in: table, high, low)].last == offset
    }

    /// Bytes held.
    public var bytes: Int { tables.reduce(0) { $0 + $1.count * MemoryLayout<Entry>.stride } }

    private static func hash(_ key: UnsafeRawBufferPointer) -> (UInt64, UInt64) {
        let digest = SHA256.digest(Array(key))
        func word(_ from: Int) -> UInt64 { digest[from..<from + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        return (word(0), word(8))
    }

    private static func slot(in table: [Entry], _ high: UInt64, _ low: UInt64) -> Int {
        var slot = Int(high.multipliedFullWidth(by: UInt64(table.count)).high)
        while table[slot].last != -1, table[slot].high != high || table[slot].low != low {
            slot = slot + 1 == table.count ? 0 : slot + 1
        }
        return slot
    }

    private mutating func grow(_ number: Int) {
        let old = tables[number]
        var new = Array(repeating: Entry(), count: old.count * 3 / 2)
        for entry in old where entry.last != -1 { new[Self.slot(in: new, entry.high, entry.low)] = entry }
        tables[number] = new
    }
}
