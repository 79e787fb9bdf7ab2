internal import CRdkafka

public struct TopicPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var topic: String
    public var partition: Int32
    public init(_ topic: String, _ partition: Int32) { (self.topic, self.partition) = (topic, partition) }
    public var description: String { "\(topic)/\(partition)" }
    public static func < (left: Self, right: Self) -> Bool { (left.topic, left.partition) < (right.topic, right.partition) }
}

/// A position in a partition with the text that a commit keeps beside it.
public struct PartitionOffset: Sendable, Equatable {
    public var at: TopicPartition
    /// nil: none known.
    public var offset: Int64?
    public var metadata: String
    public init(_ at: TopicPartition, offset: Int64?, metadata: String = "") {
        (self.at, self.offset, self.metadata) = (at, offset, metadata)
    }
}

/// A record to produce. `value` nil is a tombstone.
public struct OutgoingRecord: Sendable, Equatable {
    public var topic: String
    /// nil: murmur2 of the key over the topic's partitions, as Java and `murmur2_random` do it.
    public var partition: Int32?
    public var key: [UInt8]?
    public var value: [UInt8]?
    public var headers: [(name: String, value: [UInt8])]
    /// nil: now.
    public var timestampMilliseconds: Int64?

    public init(
        topic: String, partition: Int32? = nil, key: [UInt8]?, value: [UInt8]?, headers: [(name: String, value: [UInt8])] = [],
        timestampMilliseconds: Int64? = nil
    ) {
        (self.topic, self.partition, self.key, self.value) = (topic, partition, key, value)
        (self.headers, self.timestampMilliseconds) = (headers, timestampMilliseconds)
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.topic == right.topic && left.partition == right.partition && left.key == right.key && left.value == right.value
            && left.headers.elementsEqual(right.headers) { $0.name == $1.name && $0.value == $1.value }
    }
}

/// Owns a consuming handle of librdkafka; destroyed with the last reader and the last message of it.
final class ConsumerHandle: @unchecked Sendable {
    let pointer: OpaquePointer
    /// Left to itself: set by its one thread, before it lets go.
    var isAbandoned = false
    init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { if !isAbandoned { rd_kafka_destroy(pointer) } }
}

/// A record as consumed; its bytes lie in the fetch buffer, which lives until the last reference goes.
public final class KafkaMessage: @unchecked Sendable {
    private let message: UnsafeMutablePointer<rd_kafka_message_t>
    /// librdkafka's handle must not go before its last message: destroying it would wait for ever.
    private let owner: ConsumerHandle

    /// Takes over `message`.
    init(consuming message: UnsafeMutablePointer<rd_kafka_message_t>, of owner: ConsumerHandle) {
        (self.message, self.owner) = (message, owner)
    }
    deinit { rd_kafka_message_destroy(message) }

    public var topic: String { String(cString: rd_kafka_topic_name(message.pointee.rkt)) }
    public var partition: Int32 { message.pointee.partition }
    public var offset: Int64 { message.pointee.offset }

    /// Unix milliseconds; nil when the record has none.
    public var timestampMilliseconds: Int64? {
        var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
        let time = rd_kafka_message_timestamp(message, &kind)
        return kind == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || time < 0 ? nil : time
    }

    /// nil for a record without key. Valid as long as this message is referenced.
    public var key: UnsafeRawBufferPointer? {
        message.pointee.key.map { UnsafeRawBufferPointer(start: $0, count: message.pointee.key_len) }
    }
    /// nil for a tombstone. Valid as long as this message is referenced.
    public var value: UnsafeRawBufferPointer? {
        message.pointee.payload.map { UnsafeRawBufferPointer(start: $0, count: message.pointee.len) }
    }

    /// Calls `body` for each header in order; the bytes are valid during the call only. A null value comes as empty.
    public func forEachHeader(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        var list: OpaquePointer?
        guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return }
        var index = 0
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while rd_kafka_header_get_all(list, index, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR, let known = name {
            body(
                UnsafeRawBufferPointer(start: known, count: stringLength(known)),
                UnsafeRawBufferPointer(start: value, count: value == nil ? 0 : size))
            index += 1
        }
    }

    /// Lets go of the headers, which lie beside the record in more than a dozen pieces of memory: whoever has read them, and keeps the record
    /// for its value.
    public func dropHeaders() {
        var list: OpaquePointer?
        if rd_kafka_message_detach_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR { rd_kafka_headers_destroy(list) }
    }

    public var headers: [(name: String, value: [UInt8])] {
        var all: [(name: String, value: [UInt8])] = []
        forEachHeader { all.append((String(decoding: $0, as: UTF8.self), Array($1))) }
        return all
    }

    private func stringLength(_ text: UnsafePointer<CChar>) -> Int {
        var end = text
        while end.pointee != 0 { end += 1 }
        return end - text
    }
}

/// Kafka's default hash of keys, as Java clients and librdkafka's `murmur2` compute it.
public enum Murmur2 {
    public static func hash(_ key: [UInt8]) -> UInt32 { hash(key, count: key.count) }

    private static func hash(_ key: some Sequence<UInt8>, count: Int) -> UInt32 {
        let m: UInt32 = 0x5bd1_e995
        var h: UInt32 = 0x9747_b28c ^ UInt32(truncatingIfNeeded: count)
        var word: UInt32 = 0
        var held: UInt32 = 0
        for byte in key {
            word |= UInt32(byte) << (8 * held)
            held += 1
            guard held == 4 else { continue }
            var k = word &* m
            k ^= k >> 24
            h = (h &* m) ^ (k &* m)
            (word, held) = (0, 0)
        }
        if held > 0 { h = (h ^ word) &* m }
        h = (h ^ (h >> 13)) &* m
        return h ^ (h >> 15)
    }

    public static func partition(of key: [UInt8], count: Int) -> Int32 { Int32(hash(key) & 0x7fff_ffff) % Int32(count) }
    public static func partition(of key: String, count: Int) -> Int32 {
        Int32(hash(key.utf8, count: key.utf8.count) & 0x7fff_ffff) % Int32(count)
    }
    public static func partition(of key: Span<UInt8>, count: Int) -> Int32 {
        key.withUnsafeBufferPointer { Int32(hash($0, count: $0.count) & 0x7fff_ffff) % Int32(count) }
    }
}
