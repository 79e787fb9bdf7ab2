/// Finds what one of a few short names stands for, without a string or a hash: by its length (few share one), and then eight bytes at a time.
struct NameTable<Value: Sendable>: Sendable {
    private var byLength: [[(name: Words, value: Value)]] = Array(repeating: [], count: Words.limit + 1)

    /// Names of up to 24 bytes.
    init(_ names: [(StaticString, Value)]) {
        for (name, value) in names {
            name.withUTF8Buffer { name in
                if let words = Words(UnsafeRawBufferPointer(name)) { byLength[name.count].append((words, value)) }
            }
        }
    }

    subscript(name: UnsafeRawBufferPointer) -> Value? {
        guard let words = Words(name) else { return nil }
        for known in byLength[name.count] where known.name == words { return known.value }
        return nil
    }

    /// Two texts of one length are the same when these are.
    private struct Words: Equatable {
        static var limit: Int { 24 }
        private var first: UInt64 = 0
        private var middle: UInt64 = 0
        private var last: UInt64 = 0

        init?(_ bytes: UnsafeRawBufferPointer) {
            guard bytes.count <= Self.limit else { return nil }
            guard bytes.count >= 8 else {
                for byte in bytes { first = first << 8 | UInt64(byte) }
                return
            }
            first = bytes.loadUnaligned(as: UInt64.self)
            last = bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self)
            if bytes.count > 16 { middle = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) }
        }
    }
}
