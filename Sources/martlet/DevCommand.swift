internal import ArgumentParsing
internal import EventLoop
internal import Kafka
internal import Logging
internal import Martlet
internal import WebhookSigning
private import Synchronization

/// `martlet dev`
enum DevCommand {
    static let command: Command = Command(
        "dev", "Everything in one process on an embedded broker: topics, worker, a receiver, sample events.",
        details:
            "Nothing to set up and nothing left behind. The broker can be reached by other commands and programs on this machine while it runs.",
        flags: [
            Flag("demo", "a shop's thousand events to good and bad receivers, then a balance; exit 0 only if it is exact"),
            Flag("interval", "DURATION", "time between sample events; 0ms publishes none", default: "2s"),
        ],
        examples: [
            ("watch deliveries, publish your own from another terminal", "martlet dev"), ("the demonstration", "martlet dev --demo"),
        ]
    ) { arguments in arguments.isOn("demo") ? try Demo(arguments).run() : try watch(arguments) }

    /// Publishes a sample event now and then and prints each delivery, until a signal comes.
    private static func watch(_ arguments: Arguments) throws -> Int32 {
        let terminal = Terminal(arguments)
        let interval = try arguments.milliseconds("interval") ?? 2_000
        var log = Settings.logger(arguments)
        if !arguments.isGiven("log-level") { log.level = .warning }
        Signals.block()
        let secret = Secret.generate()
        let stack = try DevStack(secret: secret, tiers: RetryTier.defaults, behaviour: { _ in Receiver.Behaviour() }) {
            terminal.print(ListenCommand.describe($0, terminal))
        }
        var endpoint = Endpoint(id: "ep_sample", url: "http://127.0.0.1:\(stack.receiverPort)/hooks")
        endpoint.secrets = [.init(id: "s1", createdMilliseconds: SystemClock.wallMilliseconds(), plain: secret)]
        try stack.register([endpoint])
        terminal.note(terminal.paint("starting: the consumer groups form within about three seconds", .grey))
        try stack.startWorker(log) { _ in }
        terminal.note(
            """
            broker    \(stack.kafka.brokers)
            endpoint  ep_sample, all events of tenant 'default', at \(endpoint.url)
            try       martlet publish -b \(stack.kafka.brokers) --type order.created --source /shop --data '{"total": 42}'
            Ctrl-C ends
            """)
        let isDone = Atomic<Bool>(false)
        Signals.handle { _ in isDone.store(true, ordering: .relaxed) }
        let publisher = try BulkPublisher(stack.kafka, stack.topics.events)
        var number = 0
        var next = SystemClock.monotonicMilliseconds()
        while !isDone.load(ordering: .relaxed), !stack.workerHasEnded {
            if interval > 0, SystemClock.monotonicMilliseconds() >= next {
                number += 1
                next += interval
                let data = "{\"order\":\(number),\"total\":\(100 + number * 7 % 900)}"
                try publisher.publish(
                    Event(
                        id: "sample-\(number)", source: "/martlet/dev", type: "order.created", contentType: "application/json",
                        data: Array(data.utf8)))
                try publisher.finish()
            }
            _ = WakeUp.sleep(milliseconds: 50)
        }
        return stack.stop()
    }
}
