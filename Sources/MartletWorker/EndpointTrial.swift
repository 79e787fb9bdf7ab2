internal import EventLoop
public import HTTPDelivery
public import Martlet

/// One signed request to an endpoint, outside of any queue: the "test" button.
public struct EndpointTrial: Sendable {
    public struct Exchange: Sendable {
        public var headers: [HTTPHeader]
        /// How many of `headers`, at the end, are the endpoint's own.
        public var ownHeaders: Int
        public var body: [UInt8]
        public var result: HTTPResult
    }

    private final class Bytes: BodyBytes {
        private let storage: UnsafeMutableRawBufferPointer
        private let count: Int
        init(_ array: [UInt8]) {
            storage = .allocate(byteCount: max(1, array.count), alignment: 1)
            storage.copyBytes(from: array)
            count = array.count
        }
        var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[0..<count]) }
        deinit { storage.deallocate() }
    }

    private let prepared: PreparedEndpoint
    private let transport: CurlTransport.Configuration

    /// `transport`: as workers have it.
    public init(_ prepared: PreparedEndpoint, _ transport: CurlTransport.Configuration) {
        (self.prepared, self.transport) = (prepared, transport)
    }

    /// Sends `event` as a worker would, and waits for the end of it. nil: the endpoint can't be sent to (`PreparedEndpoint.refusal`).
    public func send(_ event: Event) -> Exchange? {
        guard let url = prepared.url, prepared.refusal == nil else { return nil }
        let wall = SystemClock.wallMilliseconds()
        var fanOut = FanOut(event, at: .init(topic: "", partition: 0, offset: 0, milliseconds: wall), registryOffset: 0)
        let delivery = fanOut.delivery(to: prepared.endpoint.id, as: prepared.endpoint.bodyFormat)
        let body = Bytes(delivery.body)
        let headers = DeliveryRequest.headers(delivery.headers, to: prepared, body: body.bytes, nowSeconds: wall / 1_000)
        let loop = EventLoop()
        let sender = CurlTransport(loop, tokens: 1 << 40, transport)
        sender.start(
            HTTPRequest(token: 1, url: url, headers: headers, body: body, timeouts: prepared.endpoint.timeouts),
            nowMicroseconds: SystemClock.monotonicMicroseconds())
        var result: HTTPResult?
        while true {
            sender.drain { result = $0 }
            if let result {
                return Exchange(headers: headers, ownHeaders: prepared.headers.count, body: delivery.body, result: result)
            }
            let now = SystemClock.monotonicMicroseconds()
            let wait = sender.nextDeadlineMicroseconds.map { max(0, Int(($0 - now + 999) / 1_000)) } ?? 1_000
            loop.wait(milliseconds: min(wait, 1_000)) { sender.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
            sender.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
        }
    }
}
