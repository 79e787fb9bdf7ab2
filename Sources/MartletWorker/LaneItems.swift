public import HTTPDelivery
public import Kafka
internal import Martlet

extension KafkaMessage: BodyBytes {
    public var bytes: UnsafeRawBufferPointer { value ?? UnsafeRawBufferPointer(start: nil, count: 0) }
}

/// A body of its own.
final class CopiedBody: BodyBytes {
    private let storage: UnsafeMutableRawBufferPointer
    init(_ bytes: [UInt8]) {
        storage = .allocate(byteCount: max(1, bytes.count), alignment: 1)
        storage.copyBytes(from: bytes)
        count = bytes.count
    }
    private let count: Int
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[0..<count]) }
    deinit { storage.deallocate() }
}

/// What the driver keeps of a record while the lane decides about it. When the lane is done with it, another record's is kept in its memory: what is
/// allocated anew has neighbours that have left the processor's caches when receivers take their time.
final class LaneItem: BodyBytes {
    private(set) var token = RecordToken(bits: 0)
    var headers = DeliveryHeaders()
    /// A tombstone or a record that is no delivery: why, with its headers as they came.
    private(set) var poison: (reason: String, headers: [(name: String, value: [UInt8])])?
    var lastResult: HTTPResult?
    var startedWall: Int64 = 0
    /// The endpoint as it was then.
    var startedAt: PreparedEndpoint?
    /// Its URL, for the attempt's record.
    var url = ""
    /// The access token that it went out with.
    var bearer: String?
    /// When its successor was handed to the producer.
    var producedWall: Int64 = 0
    private var id: [UInt8] = []
    /// A large body that doesn't wait for long, where it came.
    private var body: (any BodyBytes)?
    /// Memory for any other, and how much of it is in use.
    private var copy = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var copied = 0

    /// The record's value.
    var bytes: UnsafeRawBufferPointer { body?.bytes ?? UnsafeRawBufferPointer(rebasing: copy[0..<copied]) }

    /// The `webhook-id`.
    var messageID: [UInt8] {
        if id.isEmpty { headers.appendMessageID(to: &id) }
        return id
    }

    /// Bodies up to this are copied: so a message, and what librdkafka has of it, is let go of while it is in the caches.
    private static let copyLimit = 2_048

    /// `headers` are there already; of poison there are none. `waits`: for long, and must not pin a whole fetch buffer.
    func begin(
        _ token: RecordToken, _ body: any BodyBytes, waits: Bool,
        poison: (reason: String, headers: [(name: String, value: [UInt8])])? = nil
    ) {
        (self.token, self.poison) = (token, poison)
        let bytes = body.bytes
        guard waits || bytes.count <= Self.copyLimit else { return self.body = body }
        if copy.count < bytes.count {
            copy.deallocate()
            copy = .allocate(byteCount: bytes.count, alignment: 8)
        }
        copy.copyMemory(from: bytes)
        copied = bytes.count
    }

    /// Lets go of all but its memory, and of that, too, where it is unusually much.
    func end() {
        headers.removeAll()
        (body, copied) = (nil, 0)
        (poison, lastResult, startedAt, bearer) = (nil, nil, nil, nil)
        (startedWall, producedWall) = (0, 0)
        url = ""
        id.removeAll(keepingCapacity: true)
        guard copy.count > Self.copyLimit else { return }
        copy.deallocate()
        copy = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    deinit { copy.deallocate() }
}

/// The records that the driver keeps, by their places in the lane, and memory for those to come.
struct LaneItems {
    private var items: [LaneItem?] = []
    private var spare: [LaneItem] = []
    /// More than are released in a turn before others are read; a few kilobytes each.
    private static let spareLimit = 512

    /// nil: the lane is done with it.
    subscript(token: RecordToken) -> LaneItem? {
        let slot = Int(token.slot)
        guard slot < items.count, let item = items[slot], item.token == token else { return nil }
        return item
    }

    /// One for a record that is about to be read.
    mutating func empty() -> LaneItem { spare.popLast() ?? LaneItem() }

    /// From its `begin` on.
    mutating func keep(_ item: LaneItem) {
        let slot = Int(item.token.slot)
        while items.count <= slot { items.append(nil) }
        items[slot] = item
    }

    mutating func release(_ token: RecordToken) {
        guard let item = self[token] else { return }
        items[Int(token.slot)] = nil
        discard(consume item)
    }

    /// Its memory is used again, unless others still hold it: what a transport has begun with it may end later.
    mutating func discard(_ item: consuming LaneItem) {
        guard spare.count < Self.spareLimit, isKnownUniquelyReferenced(&item) else { return }
        item.end()
        spare.append(item)
    }
}
