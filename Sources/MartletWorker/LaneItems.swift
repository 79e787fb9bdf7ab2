public import HTTPDelivery
public import Kafka
internal import Martlet

extension KafkaMessage: BodyBytes {
    public var bytes: UnsafeRawBufferPointer { value ?? UnsafeRawBufferPointer(start: nil, count: 0) }
}

/// Bytes out of a fetch buffer, for records that wait for long: a message pins the whole buffer.
final class CopiedBody: BodyBytes {
    private let storage: UnsafeMutableRawBufferPointer
    init(_ bytes: UnsafeRawBufferPointer) {
        storage = .allocate(byteCount: max(1, bytes.count), alignment: 1)
        storage.copyMemory(from: bytes)
        count = bytes.count
    }
    convenience init(_ bytes: [UInt8]) {
        self.init(count: bytes.count)
        storage.copyBytes(from: bytes)
    }
    private init(count: Int) {
        storage = .allocate(byteCount: max(1, count), alignment: 1)
        self.count = count
    }
    private let count: Int
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[0..<count]) }
    deinit { storage.deallocate() }
}

/// What the driver keeps of a record while the lane decides about it.
final class LaneItem {
    let token: RecordToken
    let headers: DeliveryHeaders
    let body: any BodyBytes
    /// A tombstone or a record that is no delivery: why, with its headers as they came.
    let poison: (reason: String, headers: [(name: String, value: [UInt8])])?
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
    private(set) lazy var messageID = headers.messageIDBytes

    init(
        token: RecordToken, headers: consuming DeliveryHeaders, body: any BodyBytes,
        poison: (reason: String, headers: [(name: String, value: [UInt8])])?
    ) {
        self.headers = headers
        (self.token, self.body, self.poison) = (token, body, poison)
    }
}
