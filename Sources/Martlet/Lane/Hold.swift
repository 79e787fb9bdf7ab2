internal import Cryptography

/// An ordered endpoint that waits: its first undelivered offset in `martlet.deliveries`, and when to go on there. Everything of the endpoint
/// from that offset on that the partition's main reader has passed is covered by the hold: it counts as complete, and is read again.
public struct Hold: Sendable, Equatable {
    /// At most so many per partition; then the partition isn't read on.
    public static let limit = 48

    public var offset: Int64
    /// Unix milliseconds; the metadata keeps seconds, rounded up.
    public var dueMilliseconds: Int64
    /// Attempts already made of the record at `offset`.
    public var attempts: Int

    public init(offset: Int64, dueMilliseconds: Int64, attempts: Int) {
        (self.offset, self.dueMilliseconds, self.attempts) = (offset, dueMilliseconds, attempts)
    }

    /// An endpoint as the metadata names it: the first 8 bytes of SHA-256 of its id, big-endian.
    public static func hash(_ endpointID: String) -> UInt64 {
        SHA256.digest(Array(endpointID.utf8)).prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    // MARK: the `h1` part

    /// Per hold: 8 bytes of hash, LEB128 offset relative to the committed one (zig-zag), LEB128 due time in Unix seconds, attempts byte.
    static func encode(_ holds: [(hash: UInt64, hold: Hold)], committed: Int64) -> String {
        var bytes: [UInt8] = []
        for (hash, hold) in holds {
            bytes += (0..<8).map { UInt8(truncatingIfNeeded: hash >> (56 - 8 * UInt64($0))) }
            let relative = hold.offset - committed
            LEB128.append(UInt64(bitPattern: relative << 1 ^ relative >> 63), to: &bytes)
            LEB128.append(UInt64((max(0, hold.dueMilliseconds) + 999) / 1_000), to: &bytes)
            bytes.append(UInt8(clamping: hold.attempts))
        }
        return Base64.encode(bytes, .urlUnpadded)
    }

    /// nil: unreadable.
    static func decode(_ text: Substring, committed: Int64) -> [UInt64: Hold]? {
        guard let bytes = Base64.decode(String(text), .urlUnpadded), !bytes.isEmpty else { return nil }
        var holds: [UInt64: Hold] = [:]
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 11, holds.count < limit else { return nil }
            let hash = rest.prefix(8).reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            rest = rest.dropFirst(8)
            guard let folded = LEB128.readFirst(&rest), let seconds = LEB128.readFirst(&rest), let attempts = rest.popFirst(),
                seconds < 1 << 40, holds[hash] == nil
            else { return nil }
            let relative = Int64(bitPattern: folded >> 1) ^ -Int64(folded & 1)
            let (offset, overflow) = committed.addingReportingOverflow(relative)
            guard !overflow, offset >= 0 else { return nil }
            holds[hash] = Hold(offset: offset, dueMilliseconds: Int64(seconds) * 1_000, attempts: Int(attempts))
        }
        return holds
    }
}
