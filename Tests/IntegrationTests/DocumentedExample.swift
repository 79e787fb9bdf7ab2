import MartletProducer

// The example of docs/producing-events.md, so that it compiles; the publishing scenario runs what it shows.

struct Order: Codable {
    var order: Int
    var total: String
}

func documentedExample() async throws {
    var configuration = EventProducerConfiguration(brokers: "localhost:9092", source: "/shop")
    configuration.kafkaProperties = [:]
    let producer = try EventProducer(configuration)

    var event = try WebhookEvent(
        id: WebhookEvent.deterministicID("order", "1", "created"), type: "order.created", json: Order(order: 1, total: "9.90"))
    event.subject = "order-1"
    event.traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    let receipt = try await producer.publish(event)
    print(receipt.topic, receipt.partition, receipt.offset, receipt.messageID)

    let receipts = try await producer.publish((0..<100).map { WebhookEvent(id: "ping-\($0)", type: "ping") })
    print(receipts.count)
    await producer.flush()
    await producer.close()
}
