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

    private let prepared: PreparedEndpoint
    private let transport: TransportConfiguration

    /// `transport`: as workers have it.
    public init(_ prepared: PreparedEndpoint, _ transport: TransportConfiguration) {
        (self.prepared, self.transport) = (prepared, transport)
    }

    /// Sends `event` as a worker would, and waits for the end of it. nil: the endpoint can't be sent to (`PreparedEndpoint.refusal`).
    public func send(_ event: Event) -> Exchange? {
        guard let target = prepared.target, prepared.refusal == nil else { return nil }
        let wall = SystemClock.wallMilliseconds()
        let format = prepared.endpoint.bodyFormat
        let fanOut = FanOut(event, as: [format], at: .init(topic: "", partition: 0, offset: 0, milliseconds: wall), registryOffset: 0)
        guard let delivery = fanOut.delivery(to: prepared.endpoint.id, as: format) else { return nil }
        let loop = EventLoop()
        let sender = DeliveryTransport(loop, tokens: 1 << 40, transport)
        var bearer: String?
        if let request = prepared.tokenRequest {
            var tokens = AccessTokens()
            _ = tokens.ask(request.identity, waiter: 0, now: 0)
            let answer = exchange(
                sender, loop,
                HTTPRequest(
                    token: 1, target: request.target, headers: request.headers, body: CopiedBody(request.body),
                    timeouts: prepared.timeouts), excerptBytes: AccessTokens.answerLimitBytes)
            if let failure = tokens.answered(request.identity, answer, now: 0).failure {
                return Exchange(
                    headers: [], ownHeaders: 0, body: delivery.body, result: HTTPResult(token: 1, error: (kind: failure.0, text: failure.1))
                )
            }
            if case .bearer(let token, _) = tokens.ask(request.identity, waiter: 0, now: 0) { bearer = token }
        }
        let body = CopiedBody(delivery.body)
        let headers = DeliveryRequest.headers(
            delivery.headers, to: prepared, body: body.bytes, nowSeconds: wall / 1_000, bearer: bearer)
        let result = exchange(
            sender, loop,
            HTTPRequest(token: 2, target: target, headers: headers, body: body, timeouts: prepared.timeouts))
        return Exchange(
            headers: headers.list, ownHeaders: prepared.headers.count + (bearer == nil ? 0 : 1), body: delivery.body,
            result: prepared.withoutSecrets(result, bearer: bearer))
    }

    private func exchange(
        _ sender: DeliveryTransport, _ loop: EventLoop, _ given: HTTPRequest, excerptBytes: Int = ResponseLimits.excerptBytes
    ) -> HTTPResult {
        var request = given
        request.excerptBytes = excerptBytes
        sender.start(request, nowMicroseconds: SystemClock.monotonicMicroseconds())
        var result: HTTPResult?
        while true {
            sender.drain { result = $0 }
            if let result { return result }
            let now = SystemClock.monotonicMicroseconds()
            let wait = sender.nextDeadlineMicroseconds.map { max(0, Int(($0 - now + 999) / 1_000)) } ?? 1_000
            loop.wait(milliseconds: min(wait, 1_000)) { sender.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
            sender.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
        }
    }
}
