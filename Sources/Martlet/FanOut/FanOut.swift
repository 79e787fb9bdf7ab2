internal import Cryptography

/// Turns one event into its deliveries, one at a time: an event with 100,000 endpoints needs no memory for 100,000 records. Its bodies are
/// composed at once, in each format that some endpoint wants, and the event isn't needed any more. Not copied: there is one per event.
public struct FanOut: Sendable, ~Copyable {
    public struct Delivery: Sendable {
        public var headers: DeliveryHeaders
        public var body: [UInt8]
    }

    /// Where the event lies and when it was accepted.
    public struct Acceptance: Sendable {
        public var topic: String
        public var partition: Int32
        public var offset: Int64
        /// The event record's timestamp, never above now; Unix milliseconds.
        public var milliseconds: Int64
        public init(topic: String, partition: Int32, offset: Int64, milliseconds: Int64) {
            (self.topic, self.partition, self.offset, self.milliseconds) = (topic, partition, offset, milliseconds)
        }
    }

    /// What all deliveries of the event have in common; in place of their own ids the message's, which these are made of.
    private let template: DeliveryHeaders
    private let bodies: Bodies

    /// `registryOffset`: how far the registry had been read when the event was matched.
    public init(_ event: Event, as formats: [Endpoint.BodyFormat], at accepted: Acceptance, registryOffset: Int64) {
        let bodies =
            event.data?.withUnsafeBytes { Self.bodies(event.texts, $0, formats, accepted) }
            ?? Self.bodies(event.texts, nil, formats, accepted)
        self.init(event.texts, bodies, accepted, registryOffset)
    }

    /// The same of an event as it lies in its record.
    public init(_ event: consuming EventRecord, as formats: [Endpoint.BodyFormat], at accepted: Acceptance, registryOffset: Int64) {
        let bodies = event.withData { Self.bodies(event.texts, $0, formats, accepted) }
        // Taken out, so that adding to them copies nothing.
        var texts = HeaderTexts()
        swap(&texts, &event.texts)
        self.init(consume texts, bodies, accepted, registryOffset)
    }

    /// Almost always one.
    private struct Bodies: Sendable {
        var first: (format: Endpoint.BodyFormat, body: BodyComposer.Body)?
        var others: [(format: Endpoint.BodyFormat, body: BodyComposer.Body)] = []

        subscript(format: Endpoint.BodyFormat) -> BodyComposer.Body? {
            if let first, first.format == format { return first.body }
            return others.first { $0.format == format }?.body
        }
    }

    private static func bodies(
        _ texts: HeaderTexts, _ data: UnsafeRawBufferPointer?, _ formats: [Endpoint.BodyFormat], _ accepted: Acceptance
    ) -> Bodies {
        var bodies = Bodies()
        for format in formats {
            let body = BodyComposer.compose(texts, data, as: format, acceptedMilliseconds: accepted.milliseconds)
            if bodies.first == nil { bodies.first = (format, body) } else { bodies.others.append((format, body)) }
        }
        return bodies
    }

    private init(_ given: consuming HeaderTexts, _ bodies: Bodies, _ accepted: Acceptance, _ registryOffset: Int64) {
        self.bodies = bodies
        var template = DeliveryHeaders()
        swap(&template.texts, &given)
        let message = Identifiers.messageDigest(of: template.texts)
        template.texts.set(.deliveryID) { Identifiers.appendMessage(message, to: &$0) }
        template.texts.set(.origin) { out in
            out.append(contentsOf: accepted.topic.utf8)
            out.append("/")
            Decimal.append(Int(accepted.partition), to: &out)
            out.append("/")
            Decimal.append(Int(accepted.offset), to: &out)
        }
        template.dueMilliseconds = accepted.milliseconds
        template.firstMilliseconds = accepted.milliseconds
        template.ageFromMilliseconds = accepted.milliseconds
        template.registryOffset = registryOffset
        self.template = template
    }

    /// Of all bodies.
    public var bytes: Int { bodies.others.reduce(bodies.first?.body.bytes.count ?? 0) { $0 + $1.body.bytes.count } }

    /// The delivery to one endpoint, in one of the formats that were composed; nil in another one.
    public func delivery(to endpointID: String, as format: Endpoint.BodyFormat) -> Delivery? {
        guard let body = bodies[format] else { return nil }
        var headers = template
        headers.texts.reserve(bytes: 512)
        headers.endpointID = endpointID
        // Not `utf8.span`: of a short string it dangled once it was passed on (Swift 6.3, optimised).
        var endpointID = endpointID
        endpointID.withUTF8 { id in
            _ = template.texts.with(.deliveryID) { messageID in
                headers.texts.set(.deliveryID) { Identifiers.appendDelivery(messageID: messageID, endpointID: id.span, to: &$0) }
            }
        }
        headers.contentType = body.contentType
        return Delivery(headers: headers, body: body.bytes)
    }
}
