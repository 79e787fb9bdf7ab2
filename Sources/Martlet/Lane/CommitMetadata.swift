internal import Cryptography

/// The text beside a committed offset: ASCII, at most 4,000 characters, parts separated by spaces.
///
/// - `w1:` the incomplete offsets above the watermark, as gaps, then the highest completed offset: LEB128 numbers in base64url.
/// - `c1:` + endpoint id (events partitions): of the event at the committed offset, every endpoint up to this id is done.
/// - `h1:` holds of ordered endpoints (`Hold`). Unreadable ones stop the partition from starting: without them records would be lost.
public struct CommitMetadata: Sendable, Equatable {
    public static let lengthLimit = 4_000

    public struct Completed: Sendable, Equatable {
        /// Above the committed offset and below `highestCompleted`, ascending.
        public var incomplete: [Int64]
        public var highestCompleted: Int64
        public init(incomplete: [Int64], highestCompleted: Int64) {
            (self.incomplete, self.highestCompleted) = (incomplete, highestCompleted)
        }
    }

    public var completed: Completed?
    public var cursor: String?
    /// By `Hold.hash`; at most `Hold.limit`.
    public var holds: [UInt64: Hold] = [:]

    public init(completed: Completed? = nil, cursor: String? = nil, holds: [UInt64: Hold] = [:]) {
        (self.completed, self.cursor, self.holds) = (completed, cursor, holds)
    }

    /// Ignoring such a part would lose or reorder records: the partition must not be started.
    public struct Unreadable: Error, Sendable, Equatable, CustomStringConvertible {
        public var description: String
    }

    public func encoded(committed: Int64) -> String {
        var parts: [String] = []
        if let cursor { parts.append("c1:\(cursor)") }
        if !holds.isEmpty {
            let sorted = holds.keys.sorted().compactMap { hash in holds[hash].map { (hash: hash, hold: $0) } }
            parts.append("h1:" + Hold.encode(sorted, committed: committed))
        }
        if let completed {
            let room = Self.lengthLimit - parts.reduce(0) { $0 + $1.utf8.count + 1 }
            if let text = Self.encode(completed, committed: committed, room: room) { parts.append(text) }
        }
        return parts.joined(separator: " ")
    }

    /// When the whole list doesn't fit, the longest beginning of it that does: the rest is then delivered again after a crash.
    private static func encode(_ completed: Completed, committed: Int64, room: Int) -> String? {
        let byteLimit = (room - 3) * 3 / 4 - 20
        var bytes: [UInt8] = []
        var last = committed
        var highest = completed.highestCompleted
        // Where the list may end: behind one whose next offset is complete.
        var end: (bytes: Int, last: Int64, highest: Int64)?
        for offset in completed.incomplete {
            if offset - last > 1 { end = (bytes.count, last, offset - 1) }
            guard bytes.count < byteLimit else {
                guard let end else { return nil }
                bytes.removeLast(bytes.count - end.bytes)
                (last, highest) = (end.last, end.highest)
                break
            }
            LEB128.append(UInt64(offset - last), to: &bytes)
            last = offset
        }
        guard highest > last else { return nil }
        LEB128.append(UInt64(highest - last), to: &bytes)
        return "w1:" + Base64.encode(bytes, .urlUnpadded)
    }

    /// Reads what a commit left. `unreadableWatermark`: a `w1` part that can't be read was ignored, to be counted.
    public static func decode(_ text: String, committed: Int64) throws(Unreadable) -> (metadata: CommitMetadata, unreadableWatermark: Bool)
    {
        var metadata = CommitMetadata()
        var unreadable = false
        for part in text.split(separator: " ") {
            if part.hasPrefix("w1:") {
                metadata.completed = decodeCompleted(String(part.dropFirst(3)), committed)
                unreadable = unreadable || metadata.completed == nil
            } else if part.hasPrefix("c1:") {
                let id = part.dropFirst(3)
                guard Identifiers.isName(id) else { throw Unreadable(description: "a c1 part without an endpoint id") }
                metadata.cursor = String(id)
            } else if part.hasPrefix("h1:") {
                guard metadata.holds.isEmpty, let holds = Hold.decode(part.dropFirst(3), committed: committed) else {
                    throw Unreadable(description: "the holds of ordered endpoints ('h1') can't be read: without them records would be lost")
                }
                metadata.holds = holds
            } else {
                throw Unreadable(
                    description: "the part '\(part.prefix(8))' was written by a newer version; run that version, or drain it first")
            }
        }
        return (metadata, unreadable)
    }

    private static func decodeCompleted(_ text: String, _ committed: Int64) -> Completed? {
        guard let bytes = Base64.decode(text, .urlUnpadded), let gaps = LEB128.decodeAll(bytes), !gaps.isEmpty else { return nil }
        var offsets: [Int64] = []
        var last = committed
        for gap in gaps {
            guard gap > 0, gap <= UInt64(OffsetTracker.spanLimit) else { return nil }
            last += Int64(gap)
            guard last - committed <= OffsetTracker.spanLimit * 2 else { return nil }
            offsets.append(last)
        }
        let highest = offsets.removeLast()
        return Completed(incomplete: offsets, highestCompleted: highest)
    }
}

/// Little-endian base-128 numbers.
enum LEB128 {
    static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        var rest = value
        repeat {
            let low = UInt8(rest & 0x7f)
            rest >>= 7
            bytes.append(rest == 0 ? low : low | 0x80)
        } while rest != 0
    }

    /// Takes one number off the front; nil when the bytes end within it, or it has more than 63 bits.
    static func readFirst(_ bytes: inout ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = bytes.popFirst() {
            guard shift < 63 else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            shift += 7
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }

    /// All of them; nil when one can't be read.
    static func decodeAll(_ bytes: [UInt8]) -> [UInt64]? {
        var numbers: [UInt64] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let number = readFirst(&rest) else { return nil }
            numbers.append(number)
        }
        return numbers
    }
}
